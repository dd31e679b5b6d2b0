from typing import Any

import keras
from keras import ops

from keras_capsules import validation
from keras_capsules._backend import mean
from keras_capsules.layers.masks import mask_of
from keras_capsules.ops.norms import at_least, at_least_float32


@keras.saving.register_keras_serializable(package="keras_capsules")
class PoseNormalization(keras.layers.Layer):
    """Scales the poses of an image to a root mean square of 1.

    All poses of an image are divided by one number, the root mean square of their
    elements.

    The pose of a parent is an average of votes, so it is smaller the more the votes
    disagree. EM routing compares the spread of votes with its minimum variance.
    Without normalization, the assignments of each layer would therefore be softer than
    those of the layer below, and would depend on the size of the image.

    Unlike batch normalization, this layer needs no statistics, computes the same in
    training and inference, and preserves the ratios of the poses of an image.

    Args:
        epsilon: poses with a mean square far below `epsilon` are scaled to a root mean
            square below 1. It keeps gradients finite in half precision for images of a
            uniform grey and for images without an active capsule.
        **kwargs: `name`, `dtype` and the other arguments of
            `keras.layers.Layer`.

    Call arguments:
        inputs: poses, or `(poses, activations)`.
        mask: booleans `(batch, …)`, True for each capsule and False for padding, as
            Keras passes them on. Padding is excluded from the mean square, and its
            poses are set to 0.

    Input shape:
        Poses `(batch, …)`, activations of any shape.

    Output shape:
        The same as the input, in the layer's compute dtype.

    Raises:
        ValueError: `epsilon` is not a finite number of at least 1e-12, or the mask does
            not fit the poses.

    Example:

    >>> import keras
    >>> from keras_capsules import layers
    >>> poses = layers.PoseNormalization()(5.0 * keras.ops.ones((1, 6, 6, 8, 4, 4)))
    >>> round(float(poses[0, 0, 0, 0, 0, 0]), 3)
    1.0
    """

    def __init__(self, epsilon: float = 1e-4, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.epsilon = validation.check_at_least("epsilon", epsilon, 1e-12)

    def call(self, inputs, mask=None):
        pair = isinstance(inputs, (tuple, list))
        poses = inputs[0] if pair else inputs
        # The square of a larger value would overflow.
        x = ops.clip(at_least_float32(poses), -1e15, 1e15)
        axes = tuple(range(1, len(x.shape)))
        there = mask_of(mask, x, len(x.shape))
        if there is not None:
            x = ops.where(there > 0.0, x, 0.0)
        mean_square = mean(ops.square(x), axes)
        if there is not None:
            mean_square = mean_square / at_least(mean(there, axes), 1e-6)
        scale = ops.sqrt(mean_square + self.epsilon**2) / (mean_square + self.epsilon)
        poses = ops.cast(x * scale, self.compute_dtype)
        return (poses, inputs[1]) if pair else poses

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}
