from typing import Any

import keras
from keras import ops

from keras_capsules import validation
from keras_capsules.ops import class_indicators


def targets(y_true: Any, y_pred: Any, several: bool = True) -> Any:
    """Checks the labels of a loss and turns them into the indicators T_k.

    Args:
        y_true: integer labels `(batch,)` or `(batch, 1)`, or one-hot or
            multi-hot labels `(batch, classes)`.
        y_pred: a score for each class, `(batch, classes)`.
        several: whether a sample may have several classes or soft labels.

    Returns:
        Tensor `(batch, classes)` in the dtype of `y_pred`.

    Raises:
        ValueError: the labels have a wrong shape or batch size, values that
            `validation.check_labels` does not accept, or a dtype that can't represent
            all classes.
    """
    expected = "(batch, classes)"
    batch, classes = validation.check_shape("y_pred", y_pred, expected, 2, static=(1,))
    y_true = ops.convert_to_tensor(y_true)
    validation.check_labels(y_true, classes, "y_true", several)
    _check_precision(y_true, classes)
    if None not in (batch, y_true.shape[0]) and batch != y_true.shape[0]:
        raise ValueError(
            "`y_true` and `y_pred` must have the same batch size. Received: shapes "
            f"{tuple(y_true.shape)} and {tuple(y_pred.shape)}"
        )
    return ops.cast(class_indicators(y_true, classes, "y_true"), y_pred.dtype)


# The integers up to these can be represented.
_LARGEST = {"bfloat16": 256, "float16": 2048}


def _check_precision(y_true, classes):
    """Raises an error if labels may have been rounded to the dtype of the loss."""
    dtype = keras.backend.standardize_dtype(y_true.dtype)
    if classes - 1 <= _LARGEST.get(dtype, classes):
        return
    if not validation.labels_are_indicators(y_true.shape, classes, "y_true"):
        raise ValueError(
            f"Argument `y_true` must not be integers up to {classes - 1} in {dtype}, "
            "the dtype of the loss, which rounds them: use a loss in float32, or "
            "one-hot labels."
        )
