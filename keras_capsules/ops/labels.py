"""Conversion of integer, one-hot and multi-hot labels to indicators."""

from typing import Any

from keras import ops

from keras_capsules.validation import labels_are_indicators


def class_indicators(labels: Any, classes: int, name: str = "labels") -> Any:
    """Turns labels into the indicators T_k of the margin loss.

    Args:
        labels: integers `(batch,)` or `(batch, 1)`, or a one-hot or multi-hot
            matrix `(batch, classes)`. With one class, labels are always indicators,
            1 where the class is present, and may also have shape `(batch,)`.
        classes: the number of classes.
        name: name of the argument, for the error message.

    Returns:
        Tensor `(batch, classes)`, 1 where the class is present and 0 elsewhere, in the
        dtype of `labels` if they are float indicators, otherwise in float32. An integer
        outside the classes gives a row of zeros.

    Raises:
        ValueError: the labels have a wrong shape.

    Example:

    >>> import numpy as np
    >>> from keras_capsules.ops import class_indicators
    >>> indicators = class_indicators(np.array([2, 0]), classes=3)
    >>> [[int(x) for x in row] for row in indicators]
    [[0, 0, 1], [1, 0, 0]]
    """
    labels = ops.convert_to_tensor(labels)
    if labels_are_indicators(labels.shape, classes, name):
        labels = ops.reshape(labels, (-1, classes))
        return labels if "float" in str(labels.dtype) else ops.cast(labels, "float32")
    labels = ops.cast(ops.reshape(labels, (-1, 1)), "int32")
    # PyTorch's `one_hot` refuses integers outside the classes.
    return ops.cast(labels == ops.arange(classes, dtype="int32"), "float32")
