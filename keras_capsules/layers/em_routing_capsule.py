from typing import Any

import keras
from keras import ops

from keras_capsules import validation
from keras_capsules.layers.capsule_layer import CapsuleLayer
from keras_capsules.ops import add_coordinates


@keras.saving.register_keras_serializable(package="keras_capsules")
class EMRoutingCapsule(CapsuleLayer):
    """Class capsule layer: fully connected, with a kernel shared by all positions.

    Children of one type use the same matrices at all positions, because an object is
    the same wherever it is. Sharing loses the position of the child, which is
    therefore added to its vote: the relative row and column, from 0 to 1, are added to
    the first two elements of the right-hand column.

    Args:
        capsules: number of parents, in most networks one for each class.
        pose_shape: shape of a parent's pose: an integer for a vector, `(P, R)` for
            a matrix. P must be the number of rows of the children's poses. `None` for
            the shape of the children's poses.
        coordinate_addition: whether to add the position of a child to its vote. Only
            for matrix poses of at least two rows.
        routing: a name, an instance or a config of a routing, see
            `keras_capsules.routing.get`.
        kernel_initializer: initializer of the kernel. By default a normal
            distribution with the standard deviation `routing.kernel_stddev`. With EM
            routing, votes are then small compared with its minimum variance.
        kernel_regularizer: regularizer of the kernel.
        share_kernel: whether children of all types share one matrix for each parent.
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
        known. The kernel has shape `(types, capsules, Q, R)`, so the same weights
        work for grids of any size, except with a routing that learns weights for each
        child (`learns_for_each_child`) and `share_kernel=False`.

    Output shape:
        Poses `(batch, capsules, …)` and, if the routing computes them,
        activations `(batch, capsules)`, in the layer's compute dtype.

    Raises:
        ValueError: an argument is out of its range, the poses have another rank or an
            unknown size, the activations are missing or have another shape, the routing
            already has weights for another layer, or coordinates are to be added to
            poses that are not matrices of at least two rows.

    Example:

    >>> import keras
    >>> from keras_capsules import layers
    >>> poses = keras.random.normal((2, 3, 3, 16, 4, 4))
    >>> activations = keras.random.uniform((2, 3, 3, 16))
    >>> poses, activations = layers.EMRoutingCapsule(10)((poses, activations))
    >>> tuple(poses.shape), tuple(activations.shape)
    ((2, 10, 4, 4), (2, 10))

    Reference:
        Hinton, Sabour and Frosst, Matrix capsules with EM routing (2018),
        section 4.
    """

    def __init__(
        self,
        capsules: int,
        pose_shape: int | tuple[int, int] | None = None,
        coordinate_addition: bool = True,
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
        self.coordinate_addition = validation.check_flag(
            "coordinate_addition", coordinate_addition
        )

    def poses_shape(self, shape):
        shape = validation.check_grid_of_poses(shape)
        if self.coordinate_addition and (len(shape) == 5 or shape[4] < 2):
            raise ValueError(
                "Argument `coordinate_addition` must be False for poses that are not "
                "matrices of at least two rows. Received: coordinate_addition="
                f"{self.coordinate_addition} with poses {shape}"
            )
        return shape

    def kernel_axes(self, shape):
        return (shape[3],)

    def child_count(self, shape):
        return shape[1] * shape[2] * shape[3]

    def routing_shapes(self, shape):
        poses, kernel = super().routing_shapes(shape)
        added = int(self.coordinate_addition)
        children, capsules, columns, parent_columns = kernel
        kernel = (children, capsules, columns + added, parent_columns)
        return (*poses[:3], poses[3] + added), kernel

    def routing_inputs(self, poses, activations, kernel):
        _, height, width, _, *pose = poses.shape
        children = self.child_count(poses.shape)
        if activations is not None:
            activations = ops.reshape(activations, (-1, children))
        poses = ops.reshape(poses, (-1, children, *pose))
        kernel = ops.tile(kernel, (height * width, 1, 1, 1))
        if self.coordinate_addition:
            poses, kernel = add_coordinates(poses, kernel, (height, width))
        return {
            "poses": poses,
            "kernel": kernel,
            "activations": activations,
        }

    def get_config(self):
        return {
            **super().get_config(),
            "coordinate_addition": self.coordinate_addition,
        }
