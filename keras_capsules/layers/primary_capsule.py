from math import prod
from typing import Any

import keras
from keras import initializers, ops, regularizers

from keras_capsules import validation
from keras_capsules._backend import Conv2D
from keras_capsules.nested import Nested
from keras_capsules.ops import squash


@keras.saving.register_keras_serializable(package="keras_capsules")
class PrimaryCapsule(Nested, keras.layers.Layer):
    """First capsule layer: a convolution whose channels are the poses of capsules.

    A convolution without activation function computes `capsules` types of capsules at
    each position. A vector pose is squashed to a length below 1, which is the
    probability that its part is present. For a matrix pose the convolution has one more
    channel, whose sigmoid is the activation of the capsule.

    Args:
        capsules: number of capsule types at each position.
        pose_shape: shape of a capsule's pose: an integer for a vector, `(P, Q)` for
            a matrix.
        kernel_size: height and width of the convolution's receptive field, an
            integer or a tuple of 2.
        strides: strides along height and width, an integer or a tuple of 2.
        padding: `"valid"` or `"same"`.
        kernel_initializer: initializer of the convolution's kernel.
        bias_initializer: initializer of the convolution's bias. By default zeros for
            matrix poses and a normal distribution for vector poses. The gradient of
            squash vanishes near 0. The default bias alone therefore gives vector poses
            a length of about 0.25, or less if a pose has only one or two components.
        kernel_regularizer: regularizer of the kernel.
        bias_regularizer: regularizer of the bias.
        **kwargs: `name`, `dtype` and the other arguments of
            `keras.layers.Layer`.

    Call arguments:
        inputs: images or feature maps.

    Input shape:
        `(batch, height, width, channels)`, channels known.

    Output shape:
        Vectors: `(batch, new height, new width, capsules, D)`. Matrices: poses
        `(batch, new height, new width, capsules, P, Q)` and activations
        `(batch, new height, new width, capsules)`. In the layer's compute dtype.

    Raises:
        ValueError: an argument is out of its range, the input has another rank
            or unknown channels, or the kernel is larger than the image.

    Example:

    >>> import keras
    >>> from keras_capsules import layers
    >>> features = keras.random.normal((2, 20, 20, 16))
    >>> primary = layers.PrimaryCapsule(4, 8, kernel_size=9, strides=2)
    >>> tuple(primary(features).shape)
    (2, 6, 6, 4, 8)

    >>> primary = layers.PrimaryCapsule(8, (4, 4))
    >>> poses, activations = primary(features)
    >>> tuple(poses.shape), tuple(activations.shape)
    ((2, 20, 20, 8, 4, 4), (2, 20, 20, 8))

    Reference:
        Sabour, Frosst and Hinton, Dynamic routing between capsules (2017),
        section 4; Hinton, Sabour and Frosst, Matrix capsules with EM routing
        (2018), section 4.
    """

    def __init__(
        self,
        capsules: int,
        pose_shape: int | tuple[int, int],
        kernel_size: int | tuple[int, int] = 1,
        strides: int | tuple[int, int] = 1,
        padding: str = "valid",
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = None,
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.capsules = validation.check_positive_integer("capsules", capsules)
        self.pose_shape = validation.check_pose_shape("pose_shape", pose_shape)
        if self.pose_shape is None:
            raise ValueError("Argument `pose_shape` must be given. Received: None")
        if isinstance(self.pose_shape, int):
            self._channels = self.pose_shape
            # |s|² = 1 / 3 makes a length of |s|² / (1 + |s|²) = 0.25.
            default = initializers.RandomNormal(stddev=(3 * self.pose_shape) ** -0.5)
        else:
            self._channels = prod(self.pose_shape) + 1
            default = initializers.Zeros()
        self.kernel_size = validation.check_window("kernel_size", kernel_size)
        self.strides = validation.check_window("strides", strides)
        self.padding = validation.check_one_of("padding", padding, ("valid", "same"))
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer) or default
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.conv = Conv2D(
            capsules * self._channels,
            self.kernel_size,
            self.strides,
            padding,
            kernel_initializer=self.kernel_initializer,
            bias_initializer=self.bias_initializer,
            kernel_regularizer=self.kernel_regularizer,
            bias_regularizer=self.bias_regularizer,
            dtype=self.dtype_policy,
            name="conv",
        )
        self.freeze_sublayers()

    def build(self, input_shape):
        expected = "(batch, height, width, channels)"
        shape = validation.check_shape("inputs", input_shape, expected, 4, static=(3,))
        self._check_receptive_field(shape)
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={3: shape[3]})
        self.conv.build(shape)

    def call(self, inputs):
        self._check_receptive_field(inputs.shape)
        features = self.conv(inputs)
        _, height, width, _ = ops.shape(features)
        # (batch, height, width, capsules, D or P·Q + 1)
        features = ops.reshape(
            features, (-1, height, width, self.capsules, self._channels)
        )
        if isinstance(self.pose_shape, int):
            return squash(features)
        poses, activations = ops.split(features, [self._channels - 1], axis=-1)
        grid = (-1, height, width, self.capsules)
        poses = ops.reshape(poses, (*grid, *self.pose_shape))
        return poses, ops.sigmoid(ops.squeeze(activations, -1))

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = self.conv.compute_output_shape(input_shape)
        grid = (batch, height, width, self.capsules)
        if isinstance(self.pose_shape, int):
            return (*grid, self.pose_shape)
        return (*grid, *self.pose_shape), grid

    def get_config(self):
        return {
            **super().get_config(),
            "capsules": self.capsules,
            "pose_shape": self.pose_shape,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
            "kernel_regularizer": regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": regularizers.serialize(self.bias_regularizer),
        }

    def _check_receptive_field(self, shape):
        if self.padding == "valid":
            validation.check_receptive_field(
                "kernel_size", self.kernel_size, shape[1:3]
            )
