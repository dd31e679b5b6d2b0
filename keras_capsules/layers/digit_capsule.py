from math import prod
from typing import Any

import keras
from keras import ops

from keras_capsules.layers.capsule_layer import CapsuleLayer


@keras.saving.register_keras_serializable(package="keras_capsules")
class DigitCapsule(CapsuleLayer):
    """Fully connected capsule layer: each parent sees every child.

    Child i votes for the pose of parent j with a matrix of its own,
    `û_j|i = u_i W_ij`, and the routing computes how strongly they are coupled. With
    dynamic routing the activation of a parent is the length of its pose.

    Args:
        capsules: number of parents, the classes.
        pose_shape: size of a parent's pose.
        routing: a name, an instance or a config, as `keras_capsules.routing.get`
            takes it.
        kernel_initializer: initializer of the kernel. By default a normal
            distribution of the width that the routing asks for; dynamic routing asks
            for parents about as long as their children.
        kernel_regularizer: regularizer of the kernel.
        share_kernel: whether all children share one matrix for a parent, `W_j`.
            Their number may then vary.
        **kwargs: `name`, `dtype` and the other arguments of
            `keras.layers.Layer`.

    Call arguments:
        inputs: poses of the children, which are as active as they are long, or
            `(poses, activations)`.
        mask: True for each child, False for padding, see `CapsuleLayer`.

    Input shape:
        `(batch, …, D)` with every size known but the batch: all axes between
        are children, I in all. The kernel has shape
        `(I, capsules, D, pose_shape)`. If it is shared its shape is
        `(1, capsules, D, pose_shape)`, and only D has to be known.

    Output shape:
        `(batch, capsules, pose_shape)` in the layer's compute dtype, and with a
        routing that computes activations `(batch, capsules)` for these.

    Raises:
        ValueError: an argument is out of its range, the input has fewer than 3
            axes or an unknown size, or it is another than the layer was built
            for.

    Example:

    >>> import keras
    >>> from keras_capsules import layers
    >>> children = keras.random.normal((2, 6, 6, 4, 8))
    >>> tuple(layers.DigitCapsule(10)(children).shape)
    (2, 10, 16)

    Sentences of different length, padded:

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
            # It takes other numbers of children as well.
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
