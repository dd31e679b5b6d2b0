import keras
from keras import ops

from keras_capsules import arguments
from keras_capsules.ops import class_indicators, safe_norm


@keras.saving.register_keras_serializable(package="keras_capsules")
class CapsuleMask(keras.layers.Layer):
    """Sets all capsules to zero but those of the labels, or the longest one.

    Args:
        **kwargs: `name`, `dtype` and the other arguments of
            `keras.layers.Layer`.

    Call arguments:
        poses: poses of capsules.
        labels: which capsules to keep: integers, one-hot, or several at once
            as multi-hot. Without labels the longest capsule is kept.

    Input shape:
        `poses` `(batch, capsules, D)`; `labels` `(batch,)`, `(batch, 1)` or
        `(batch, capsules)`.

    Output shape:
        `(batch, capsules, D)` in the layer's compute dtype.

    Raises:
        ValueError: the poses have another rank, or the labels another shape or
            a value outside the capsules.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> from keras_capsules import layers
    >>> poses = keras.ops.ones((2, 3, 1))
    >>> masked = layers.CapsuleMask()(poses, np.array([2, 0]))
    >>> [[int(pose) for pose in image] for image in masked[..., 0]]
    [[0, 0, 1], [1, 0, 0]]

    Reference:
        Sabour, Frosst and Hinton, Dynamic routing between capsules (2017),
        section 4.1.
    """

    def build(self, poses_shape, labels_shape=None):
        expected = "(batch, capsules, pose size)"
        arguments.shape("poses", poses_shape, expected, 3, static=(1,))

    def call(self, poses, labels=None):
        capsules = poses.shape[1]
        if labels is None:
            labels = ops.argmax(safe_norm(poses), axis=-1)
        keep = ops.cast(class_indicators(labels, capsules), poses.dtype)
        return poses * ops.expand_dims(keep, -1)

    def compute_output_shape(self, poses_shape, labels_shape=None):
        return tuple(poses_shape)
