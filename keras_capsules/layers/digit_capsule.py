from math import prod
from typing import Any

import keras
from keras import ops

from keras_capsules.layers.capsule_layer import CapsuleLayer


@keras.saving.register_keras_serializable(package="keras_capsules")
class DigitCapsule(CapsuleLayer):
    """Fully connected capsule layer: each parent receives votes from every child.

    Child i votes for the pose of parent j with a matrix of its own,
    `û_j|i = u_i W_ij`. The routing computes how strongly they are coupled. With
    dynamic routing the activation of a parent is the length of its pose.

    Args:
        capsules: number of parents, in most networks one for each class.
        pose_shape: size of a parent's pose.
        routing: a name, an instance or a config of a routing, see
            `keras_capsules.routing.get`.
        kernel_initializer: initializer of the kernel. By default a normal
            distribution with the standard deviation `routing.kernel_stddev`. With
            dynamic routing, parents are then about as long as their children.
        kernel_regularizer: regularizer of the kernel.
        share_kernel: whether all children share one matrix `W_j` for each parent.
            The number of children may then vary.
        **kwargs: `name`, `dtype` and the other arguments of
            `keras.layers.Layer`.

    Call arguments:
        inputs: poses of the children, or `(poses, activations)`. Without activations
            the lengths of the poses are used.
        mask: True for each child, False for padding, see `CapsuleLayer`.
        training: whether the call is part of training, see `CapsuleLayer`.

    Input shape:
        Poses `(batch, …, D)`, activations `(batch, …)`. All axes between are children,
        I in total. All sizes except the batch size must be known. The kernel has shape
        `(I, capsules, D, pose_shape)`. With `share_kernel` it has shape `(1, capsules,
        D, pose_shape)`, and only D must be known.

    Output shape:
        Poses `(batch, capsules, pose_shape)` and, if the routing computes them,
        activations `(batch, capsules)`, in the layer's compute dtype.

    Raises:
        ValueError: an argument is out of its range, the input has fewer than 3
            axes or an unknown size, or its shape is not the one that the layer was
            built for.

    Example:

    >>> import keras
    >>> from keras_capsules import layers
    >>> children = keras.random.normal((2, 6, 6, 4, 8))
    >>> tuple(layers.DigitCapsule(10)(children).shape)
    (2, 10, 16)

    Padded sentences of different lengths:

    >>> words = keras.Input((None,), dtype="int32")
    >>> x = keras.layers.Embedding(1000, 8, mask_zero=True)(words)
    >>> classes = layers.DigitCapsule(4, share_kernel=True)(x)
    >>> tuple(classes.shape)
    (None, 4, 16)

    Reference:
        Sabour, Frosst and Hinton, Dynamic routing between capsules (2017),
        section 4 and equation 2.
    """

    def __init__(
        self,
        capsules: int,
        pose_shape: int = 16,
        routing: Any = "dynamic",
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

    def poses_shape(self, shape):
        shape = tuple(shape)
        known = shape[-1:] if self.share_kernel else shape[1:]
        if len(shape) < 3 or None in known:
            raise ValueError(
                "`inputs` must have shape (batch, …, children, pose size). The number "
                "of children may be unknown with share_kernel=True alone, the pose "
                f"size never. Received: {shape}"
            )
        return shape

    def child_pose(self, shape):
        return shape[-1:]

    def build(self, input_shape):
        super().build(input_shape)
        if self.share_kernel:
            # A shared kernel works for any number of children.
            *children, size = self._built_for
            self._built_for = (*(None for _ in children), size)

    def kernel_axes(self, shape):
        return (None if None in shape[1:-1] else prod(shape[1:-1]),)

    def child_count(self, shape):
        return None if None in shape[1:-1] else prod(shape[1:-1])

    def routing_inputs(self, poses, activations, kernel):
        children, _, size, _ = ops.shape(kernel)
        if activations is not None:
            activations = ops.reshape(activations, (-1, children))
        return {
            "poses": ops.reshape(poses, (-1, children, 1, size)),
            "kernel": kernel,
            "activations": activations,
        }
