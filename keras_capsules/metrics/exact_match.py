from typing import Any

import keras
from keras import ops

from keras_capsules import validation
from keras_capsules._backend import amax, amin
from keras_capsules.ops import class_indicators


def _is_exact_match(y_true, y_pred):
    y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
    classes = y_pred.shape[-1]
    validation.check_labels(y_true, classes, "y_true")
    present = class_indicators(y_true, classes, "y_true") > 0.5
    weakest_present = amin(ops.where(present, y_pred, float("inf")), axis=-1)
    strongest_absent = amax(ops.where(present, float("-inf"), y_pred), axis=-1)
    return ops.cast(weakest_present > strongest_absent, y_pred.dtype)


@keras.saving.register_keras_serializable(package="keras_capsules")
class ExactMatch(keras.metrics.MeanMetricWrapper):
    """Computes how often the highest scores are exactly those of the present classes.

    An image of n classes is an exact match if its n longest capsules are those of the n
    present classes. A tie between a present and an absent class is not a match. An
    image without any class is always an exact match.

    Args:
        name: name of the metric.
        dtype: dtype of the result, `keras.config.floatx()` by default.

    Call arguments:
        y_true: one-hot or multi-hot labels `(batch, classes)`, or integer labels
            `(batch,)` or `(batch, 1)`.
        y_pred: lengths of the class capsules, `(batch, classes)`.
        sample_weight: a weight for each sample, `(batch,)`.

    Raises:
        ValueError: the labels have a wrong shape, or values outside the classes.

    Example:

    >>> import numpy as np
    >>> from keras_capsules import metrics
    >>> both = np.array([[1, 1, 0], [0, 1, 1]])
    >>> lengths = np.array([[0.9, 0.7, 0.2], [0.8, 0.9, 0.1]])
    >>> float(metrics.ExactMatch()(both, lengths))
    0.5

    Reference:
        Sabour, Frosst and Hinton, Dynamic routing between capsules (2017),
        section 6.
    """

    def __init__(self, name: str = "exact_match", dtype: Any = None) -> None:
        super().__init__(_is_exact_match, name=name, dtype=dtype)

    def get_config(self):
        return {"name": self.name, "dtype": self.dtype}
