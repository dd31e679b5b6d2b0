from typing import Any

import keras
from keras import ops

from keras_capsules import validation
from keras_capsules.ops import class_indicators, safe_norm


@keras.saving.register_keras_serializable(package="keras_capsules")
class CapsuleMask(keras.layers.Layer):
    """Sets all capsules to zero except those of the labels, or the longest one.

    Args:
        **kwargs: `name`, `dtype` and the other arguments of
            `keras.layers.Layer`.

    Call arguments:
        poses: poses of capsules.
        labels: the capsules to keep, as integers or one-hot; several for each
            image as multi-hot. Without labels the longest capsule is kept.

    Input shape:
        `poses` `(batch, capsules, D)`; `labels` `(batch,)`, `(batch, 1)` or
        `(batch, capsules)`.

    Output shape:
        `(batch, capsules, D)` in the layer's compute dtype.

    Raises:
        ValueError: the poses have another rank, or the labels have another shape or
            batch size, or do not name a capsule.

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

    def __init__(self, **kwargs: Any) -> None:
        # Labels keep their dtype: bfloat16 does not represent all integers above 256.
        super().__init__(**{**kwargs, "autocast": False})

    def build(self, poses_shape, labels_shape=None):
        expected = "(batch, capsules, pose size)"
        shape = validation.check_shape("poses", poses_shape, expected, 3, static=(1,))
        self._capsules = shape[1]
        if labels_shape is not None:
            validation.check_labels(keras.KerasTensor(labels_shape), shape[1])

    def call(self, poses, labels=None):
        poses = ops.cast(poses, self.compute_dtype)
        batch, capsules = poses.shape[0], self._capsules
        if labels is None:
            keep = ops.one_hot(ops.argmax(safe_norm(poses), axis=-1), capsules)
        else:
            validation.check_labels(labels, capsules)
            keep = class_indicators(labels, capsules)
            if None not in (batch, keep.shape[0]) and batch != keep.shape[0]:
                raise ValueError(
                    "`poses` and `labels` must hold as many samples. Received: shapes "
                    f"{tuple(poses.shape)} and {tuple(labels.shape)}"
                )
        return poses * ops.expand_dims(ops.cast(keep, poses.dtype), -1)

    def compute_output_shape(self, poses_shape, labels_shape=None):
        return tuple(poses_shape)
