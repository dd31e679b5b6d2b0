from typing import Any

import keras
from keras import ops

from keras_capsules import validation
from keras_capsules._backend import mean
from keras_capsules.layers.masks import mask_of
from keras_capsules.ops.norms import at_least, at_least_float32


@keras.saving.register_keras_serializable(package="keras_capsules")
class PoseNormalization(keras.layers.Layer):
    """Scales the poses of an image so that their elements have RMS 1.

    All poses of an image are divided by one number, the root of the mean square
    of their elements. The pose of a parent is an average of votes and the more
    of them disagree the smaller it is; EM routing measures votes by its minimum
    variance, so that without this each layer would route more softly than the
    one before, and differently for every image size.

    Unlike batch normalization it needs no statistics, does the same in training
    and in use, and keeps the relations between the poses of an image.

    Args:
        epsilon: mean square below which poses fade instead of being amplified, so
            that images of one grey, and images without an active capsule, leave
            gradients finite in half precision.
        **kwargs: `name`, `dtype` and the other arguments of
            `keras.layers.Layer`.

    Call arguments:
        inputs: poses, or `(poses, activations)`.
        mask: True for each capsule, False for padding, `(batch, …)`, as Keras passes
            it on. Padding does not count for the mean square; its poses become 0.

    Input shape:
        Poses `(batch, …)`, activations of any shape.

    Output shape:
        The same as the input, in the layer's compute dtype.

    Raises:
        ValueError: `epsilon` is below 1e-12.

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
        # Beyond this the square would overflow.
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
