"""Labels of one class or of several, as one kind of tensor."""

from typing import Any

import keras
import numpy as np
from keras import ops

_NOT_ONE_HOT = "Argument `{}` holds rows of no or of several classes, expected one-hot."


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
        An integer outside the classes gives a row of zeros; `check_labels`
        finds it.

    Raises:
        ValueError: the labels have another shape.

    Example:

    >>> import numpy as np
    >>> indicators = class_indicators(np.array([2, 0]), classes=3)
    >>> [[int(x) for x in row] for row in indicators]
    [[0, 0, 1], [1, 0, 0]]
    """
    labels = ops.convert_to_tensor(labels)
    if _is_matrix(labels.shape, classes, name):
        return labels if "float" in str(labels.dtype) else ops.cast(labels, "float32")
    labels = ops.cast(ops.reshape(labels, (-1,)), "int32")
    return ops.one_hot(labels, classes, dtype="float32")


def check_labels(
    labels: Any, classes: int, name: str = "labels", several: bool = True
) -> None:
    """Raises an error if labels have the wrong shape or lie outside the classes.

    While a step is compiled, values are not known yet. TensorFlow then checks
    them when the step runs, and raises `tf.errors.InvalidArgumentError`; other
    compilers, XLA among them, have no such means.

    Args:
        labels: integers `(batch,)` or `(batch, 1)`, or a one-hot or multi-hot
            matrix `(batch, classes)`.
        classes: the number of classes.
        name: name of the argument, for the error.
        several: whether a row of the matrix may stand for several classes.

    Raises:
        ValueError: the labels have another shape or are text, integers outside
            `[0, classes)`, indicators outside `[0, 1]`, or several classes in a
            row where only one is wanted.

    Example:

    >>> check_labels([0, 10], classes=10, name="y")
    Traceback (most recent call last):
    ...
    ValueError: Argument `y` holds the label 10, expected integers from 0 to 9.
    """
    labels = labels if hasattr(labels, "shape") else np.asarray(labels)
    matrix = _is_matrix(labels.shape, classes, name)
    one_hot = matrix and not several
    if matrix:
        high, expected = 1, "indicators from 0 to 1"
    else:
        high, expected = classes - 1, f"integers from 0 to {classes - 1}"
    values = _known_values(labels)
    if values is None:
        _check_when_the_graph_runs(labels, high, expected, name, one_hot)
        return
    if values.dtype.kind in "OSU":
        raise ValueError(
            f"Argument `{name}` holds labels of type {values.dtype}, expected "
            f"{expected}."
        )
    outside = values[~((values >= 0) & (values <= high))]
    if outside.size:
        raise ValueError(
            f"Argument `{name}` holds the label {outside[0]}, expected {expected}."
        )
    if one_hot and (values.sum(-1) != 1).any():
        raise ValueError(_NOT_ONE_HOT.format(name))


def _is_matrix(shape, classes, name):
    """Whether labels of this shape are one-hot or multi-hot."""
    shape = tuple(shape)
    if len(shape) == 2 and shape[1] == classes:
        return True
    if len(shape) == 1 or (len(shape) == 2 and shape[1] == 1):
        return False
    raise ValueError(
        f"Argument `{name}` must have shape (batch,) or (batch, 1) for integer "
        f"labels, or (batch, {classes}) for one-hot and multi-hot labels. "
        f"Received shape: {shape}"
    )


def _known_values(x):
    """The values of a tensor; None while they are not known yet."""
    try:
        return np.asarray(ops.convert_to_numpy(x))
    except (NotImplementedError, RuntimeError, TypeError, ValueError):
        return None


def _check_when_the_graph_runs(labels, high, expected, name, one_hot):
    if keras.backend.backend() == "tensorflow" and ops.is_tensor(labels):
        import tensorflow as tf

        labels = tf.cast(labels, tf.float32)
        inside = (labels >= 0.0) & (labels <= float(high))
        message = f"Argument `{name}` holds a label that is not among {expected}."
        tf.debugging.Assert(tf.reduce_all(inside), [message])
        if one_hot:
            single = tf.reduce_all(tf.reduce_sum(labels, -1) == 1.0)
            tf.debugging.Assert(single, [_NOT_ONE_HOT.format(name)])
