from math import prod
from typing import Any

import keras
from keras import initializers, ops, regularizers

from keras_capsules import arguments
from keras_capsules import routing as routings


@keras.saving.register_keras_serializable(package="keras_capsules")
class DigitCapsule(keras.layers.Layer):
    """Capsules that stand for whole objects, each connected to every child.

    Child i votes for the pose of parent j with a matrix of its own,
    `û_j|i = u_i W_ij`, and the routing decides who listens to whom. The
    activation of a parent is the length of its pose.

    Args:
        capsules: number of parents, the classes.
        pose_shape: size of a parent's pose.
        routing: a name, an instance or a config, as `keras_capsules.routing.get`
            takes it.
        kernel_initializer: initializer of the kernel. By default a normal
            distribution of standard deviation 0.1: the initializers that scale
            with fan-in take the kernel for a convolution's and make it so small
            that squash leaves no gradient.
        kernel_regularizer: regularizer of the kernel.
        **kwargs: `name`, `dtype` and the other arguments of
            `keras.layers.Layer`.

    Call arguments:
        inputs: poses of the children.

    Input shape:
        `(batch, …, D)` with every size known but the batch: all axes between
        are children, I in all. The kernel has shape
        `(I, capsules, D, pose_shape)`.

    Output shape:
        `(batch, capsules, pose_shape)` in the layer's compute dtype.

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
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.capsules = arguments.positive_integer("capsules", capsules)
        self.pose_shape = arguments.positive_integer("pose_shape", pose_shape)
        self.routing = routings.get(routing)
        self.kernel_initializer = initializers.get(
            kernel_initializer or initializers.RandomNormal(stddev=0.1)
        )
        self.kernel_regularizer = regularizers.get(kernel_regularizer)

    def build(self, input_shape):
        input_shape = tuple(input_shape)
        if len(input_shape) < 3 or None in input_shape[1:]:
            raise ValueError(
                "`inputs` must have shape (batch, …, children, pose size) with every "
                f"size known but the batch. Received: {input_shape}"
            )
        self.input_spec = keras.layers.InputSpec(shape=(None, *input_shape[1:]))
        *children, size = input_shape[1:]
        children = prod(children)
        self.kernel = self.add_weight(
            name="kernel",
            shape=(children, self.capsules, size, self.pose_shape),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
        )

    def call(self, inputs):
        children, _, size, _ = self.kernel.shape
        poses = ops.reshape(inputs, (-1, children, 1, size))
        parents = self.routing(poses, ops.convert_to_tensor(self.kernel))
        parents = ops.reshape(parents, (-1, self.capsules, self.pose_shape))
        return ops.cast(parents, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.capsules, self.pose_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "capsules": self.capsules,
            "pose_shape": self.pose_shape,
            "routing": keras.saving.serialize_keras_object(self.routing),
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": regularizers.serialize(self.kernel_regularizer),
        }
