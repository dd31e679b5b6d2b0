from math import prod
from typing import Any

import keras
from keras import ops

from keras_capsules import validation
from keras_capsules.layers.capsule_layer import CapsuleLayer
from keras_capsules.ops import ReceptiveFields, extract_patches


@keras.saving.register_keras_serializable(package="keras_capsules")
class ConvCapsule(CapsuleLayer):
    """Convolutional capsule layer: each parent has a receptive field of children.

    At each position there is one parent of each of the `capsules` types. All of them
    receive votes from all children in the receptive field. The child of type c at
    place k of the field votes for the parent of type j with the matrix `W_kcj`, which
    is the same at all positions.

    Args:
        capsules: number of parent types at each position.
        pose_shape: shape of a parent's pose: an integer for a vector, `(P, R)` for
            a matrix. P must be the number of rows of the children's poses. `None` for
            the shape of the children's poses.
        kernel_size: height and width of a receptive field, an integer or a tuple
            of 2.
        strides: strides of the receptive fields along height and width, an integer
            or a tuple of 2.
        padding: `"valid"` or `"same"`. With `"same"`, children beyond the border are
            inactive.
        routing: a name, an instance or a config of a routing, see
            `keras_capsules.routing.get`.
        kernel_initializer: initializer of the kernel. By default a normal
            distribution with the standard deviation `routing.kernel_stddev`. With EM
            routing, votes are then small compared with its minimum variance.
        kernel_regularizer: regularizer of the kernel.
        share_kernel: whether all children of a receptive field share one matrix
            `W_j` for each parent.
        **kwargs: `name`, `dtype` and the other arguments of
            `keras.layers.Layer`.

    Call arguments:
        inputs: `(poses, activations)` of the children. Vector poses may be
            passed alone: the activations are then their lengths.
        mask: True for each child, False for padding, see `CapsuleLayer`.
        training: whether the call is part of training, see `CapsuleLayer`.

    Input shape:
        Poses `(batch, height, width, types, D)` or
        `(batch, height, width, types, P, Q)`, activations
        `(batch, height, width, types)`. All sizes except the batch size must be
        known. The kernel has shape `(*kernel_size, types, capsules, Q, R)`.

    Output shape:
        Poses `(batch, new height, new width, capsules, …)` and, if the routing
        computes them, activations `(batch, new height, new width, capsules)`, in
        the layer's compute dtype.

    Raises:
        ValueError: an argument is out of its range, the poses have another rank or an
            unknown size, the activations are missing or have another shape, the routing
            already has weights for another layer, or the receptive field is larger than
            the grid.

    Example:

    >>> import keras
    >>> from keras_capsules import layers
    >>> poses = keras.random.normal((2, 12, 12, 8, 4, 4))
    >>> activations = keras.random.uniform((2, 12, 12, 8))
    >>> conv = layers.ConvCapsule(16, kernel_size=3, strides=2)
    >>> poses, activations = conv((poses, activations))
    >>> tuple(poses.shape), tuple(activations.shape)
    ((2, 5, 5, 16, 4, 4), (2, 5, 5, 16))

    Reference:
        Hinton, Sabour and Frosst, Matrix capsules with EM routing (2018),
        section 4 and figure 1.
    """

    def __init__(
        self,
        capsules: int,
        pose_shape: int | tuple[int, int] | None = None,
        kernel_size: int | tuple[int, int] = 3,
        strides: int | tuple[int, int] = 1,
        padding: str = "valid",
        routing: Any = "em",
        kernel_initializer: Any = None,
        kernel_regularizer: Any = None,
        share_kernel: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            capsules,
            pose_shape,
            routing,
            kernel_initializer,
            kernel_regularizer,
            share_kernel,
            **kwargs,
        )
        self.kernel_size = validation.check_window("kernel_size", kernel_size)
        self.strides = validation.check_window("strides", strides)
        self.padding = validation.check_one_of("padding", padding, ("valid", "same"))

    def poses_shape(self, shape):
        shape = validation.check_grid_of_poses(shape)
        if self.padding == "valid":
            validation.check_receptive_field(
                "kernel_size", self.kernel_size, shape[1:3]
            )
        return shape

    def kernel_axes(self, shape):
        return (*self.kernel_size, shape[3])

    def parent_grid(self, shape):
        return self._receptive_fields(shape).grid

    def child_count(self, shape):
        return self.kernel_size[0] * self.kernel_size[1] * shape[3]

    def routing_inputs(self, poses, activations, kernel):
        receptive_fields = self._receptive_fields(poses.shape)
        children = self.child_count(poses.shape)
        if activations is not None:
            activations = ops.reshape(self._patches(activations), (-1, children))
        # One row for each receptive field: (batch · fields, children, P, Q)
        poses = ops.reshape(self._patches(poses), (-1, children, *poses.shape[4:]))
        return {
            "poses": poses,
            "kernel": ops.reshape(kernel, (children, *kernel.shape[3:])),
            "activations": activations,
            "receptive_fields": receptive_fields,
        }

    def get_config(self):
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
        }

    def _receptive_fields(self, shape):
        return ReceptiveFields(
            shape[1:3], self.kernel_size, self.strides, self.padding, shape[3]
        )

    def _patches(self, x):
        """Returns receptive fields, `(batch, rows, columns, places · types · …)`."""
        _, height, width, *child = x.shape
        x = ops.reshape(x, (-1, height, width, prod(child)))
        return extract_patches(x, self.kernel_size, self.strides, self.padding)
