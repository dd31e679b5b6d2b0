"""Labels of one class or of several, as one kind of tensor."""

from typing import Any

import numpy as np
from keras import ops


def class_indicators(labels: Any, classes: int, name: str = "labels") -> Any:
    """Turns labels into the indicators T_k of the margin loss.

    Args:
        labels: integers `(batch,)` or `(batch, 1)`, or a one-hot or multi-hot
            matrix `(batch, classes)`.
        classes: the number of classes.
        name: name of the argument, for the error.

    Returns:
        Tensor `(batch, classes)`, 1 where the class is present and 0 elsewhere,
        in the dtype of `labels` if that is a matrix of floats, else in float32.

    Raises:
        ValueError: the labels have another shape, or, where their values are
            known (they are not while a step is compiled), lie outside
            `[0, classes)`, or outside `[0, 1]` in a matrix.

    Example:

    >>> import numpy as np
    >>> indicators = class_indicators(np.array([2, 0]), classes=3)
    >>> [[int(x) for x in row] for row in indicators]
    [[0, 0, 1], [1, 0, 0]]
    """
    labels = ops.convert_to_tensor(labels)
    check_labels(labels, classes, name)
    if _is_matrix(labels.shape, classes):
        return labels if "float" in str(labels.dtype) else ops.cast(labels, "float32")
    labels = ops.cast(ops.reshape(labels, (-1,)), "int32")
    return ops.one_hot(labels, classes, dtype="float32")


def check_labels(labels: Any, classes: int, name: str = "labels") -> None:
    """Raises the `ValueError` of `class_indicators`, and does nothing else.

    Args:
        labels: integers `(batch,)` or `(batch, 1)`, or a one-hot or multi-hot
            matrix `(batch, classes)`.
        classes: the number of classes.
        name: name of the argument, for the error.

    Raises:
        ValueError: the labels have another shape or values outside the classes.

    Example:

    >>> check_labels([0, 10], classes=10, name="y")
    Traceback (most recent call last):
    ...
    ValueError: Argument `y` holds the label 10, expected integers from 0 to 9.
    """
    labels = labels if hasattr(labels, "shape") else np.asarray(labels)
    shape = tuple(labels.shape)
    if not (len(shape) == 1 or (len(shape) == 2 and shape[1] in (1, classes, None))):
        raise ValueError(
            f"Argument `{name}` must have shape (batch,) or (batch, 1) for integer "
            f"labels, or (batch, {classes}) for one-hot and multi-hot labels. "
            f"Received shape: {shape}"
        )
    values = _known_values(labels)
    if values is None or values.size == 0:
        return
    if _is_matrix(shape, classes):
        low, high, expected = 0, 1, "indicators from 0 to 1"
    else:
        low, high, expected = 0, classes - 1, f"integers from 0 to {classes - 1}"
    outside = values[~((values >= low) & (values <= high))]
    if outside.size:
        raise ValueError(
            f"Argument `{name}` holds the label {outside[0]}, expected {expected}."
        )


def _is_matrix(shape, classes):
    return len(shape) == 2 and shape[1] == classes


def _known_values(x):
    """The values of a tensor; None while they are not known yet."""
    try:
        return np.asarray(ops.convert_to_numpy(x))
    except (NotImplementedError, RuntimeError, TypeError, ValueError):
        return None
