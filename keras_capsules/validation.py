"""Checks of arguments: each raises a ValueError that names the argument."""

from collections.abc import Collection
from math import inf
from numbers import Integral, Real
from typing import Any

import numpy as np
from keras import ops

from keras_capsules._backend import assert_in_graph

_NOT_ONE_HOT = "Argument `{}` holds rows of no or of several classes, expected one-hot."
_SOFT = "Argument `{}` holds soft labels, expected one-hot: one 1 in a row, else 0."
_TOO_MANY = "Argument `{}` holds rows of more than {} classes: {}."


def check_positive_integer(name: str, value: Any) -> int:
    """Returns `value` as an int if it is an integer of at least 1."""
    return _integer(name, value, 1)


def check_natural_integer(name: str, value: Any) -> int:
    """Returns `value` as an int if it is an integer of at least 0."""
    return _integer(name, value, 0)


def check_positive(name: str, value: Any) -> float:
    """Returns `value` if it is a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value < inf:
        raise ValueError(
            f"Argument `{name}` must be a number above 0, and finite. "
            f"Received: {name}={value!r}"
        )
    return value


def check_at_least(name: str, value: Any, least: float) -> float:
    """Returns `value` if it is a finite number of at least `least`."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not least <= value < inf:
        raise ValueError(
            f"Argument `{name}` must be a finite number of at least {least}. "
            f"Received: {name}={value!r}"
        )
    return value


def check_momentum(name: str, value: Any) -> float:
    """Returns `value` if it is a number from 0 to below 1."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value < 1:
        raise ValueError(
            f"Argument `{name}` must be a number from 0 to below 1. "
            f"Received: {name}={value!r}"
        )
    return value


def check_flag(name: str, value: Any) -> bool:
    """Returns `value` if it is True or False."""
    if not isinstance(value, bool):
        raise ValueError(
            f"Argument `{name}` must be True or False. Received: {name}={value!r}"
        )
    return value


def check_positive_integers(
    name: str, value: Any, length: int | None
) -> tuple[int, ...]:
    """Returns `value` as a tuple if it holds `length` integers of at least 1.

    A `length` of `None` allows any length.
    """
    if not isinstance(value, (tuple, list)) or length not in (None, len(value)):
        raise ValueError(
            f"Argument `{name}` must be a tuple of {length or 'some'} integers. "
            f"Received: {name}={value!r}"
        )
    return tuple(check_positive_integer(name, element) for element in value)


def check_window(name: str, value: Any) -> tuple[int, int]:
    """Returns `value` as height and width; an integer is used for both."""
    if isinstance(value, Integral):
        value = (value, value)
    return check_positive_integers(name, value, 2)


def check_pose_shape(name: str, value: Any) -> int | tuple[int, int] | None:
    """Returns `value` if it is a vector size, the shape of a matrix or `None`."""
    if value is None:
        return None
    if isinstance(value, Integral):
        return check_positive_integer(name, value)
    return check_positive_integers(name, value, 2)


def check_one_of(name: str, value: Any, allowed: Collection) -> Any:
    """Returns `value` if it is among `allowed`."""
    if value not in allowed:
        raise ValueError(
            f"Argument `{name}` must be one of {tuple(allowed)}. "
            f"Received: {name}={value!r}"
        )
    return value


def check_class_names(name: str, value: Any, classes: int) -> tuple[str, ...]:
    """Returns `value` as a tuple if it holds one string for each class."""
    names = tuple(value) if isinstance(value, (list, tuple, np.ndarray)) else ()
    if len(names) != classes or not all(isinstance(text, str) for text in names):
        raise ValueError(
            f"Argument `{name}` must hold a name for each of the {classes} classes. "
            f"Received: {name}={value!r}"
        )
    return names


def check_shape(
    name: str, value: Any, expected: str, rank: int, static: tuple = ()
) -> tuple:
    """Returns the shape of `value` if it has the required rank and known sizes.

    Args:
        name: name of the argument, for the error message.
        value: a shape, or an object with the attribute `shape`.
        expected: the expected shape in words, for the error message.
        rank: required number of axes.
        static: axes whose size must be known.
    """
    value = tuple(getattr(value, "shape", value))
    if len(value) != rank:
        raise ValueError(f"`{name}` must have shape {expected}. Received: {value}")
    if any(value[axis] is None for axis in static):
        raise ValueError(
            f"`{name}` must have shape {expected} with known sizes on the axes "
            f"{tuple(static)}. Received: {value}"
        )
    return value


def check_grid_of_poses(value: tuple) -> tuple:
    """Returns `value` if it is a shape of poses on a grid, vectors or matrices."""
    value = tuple(value)
    if len(value) not in (5, 6) or None in value[1:]:
        raise ValueError(
            "Poses must have shape (batch, height, width, types, D) or (batch, height, "
            f"width, types, P, Q), every size known but the batch. Received: {value}"
        )
    return value


def check_receptive_field(name: str, value: tuple[int, int], size: tuple) -> None:
    """Raises an error if the window `value` is larger than an image of `size`.

    Args:
        name: name of the argument, for the error message.
        value: height and width of the window.
        size: height and width of the image; `None` where unknown.
    """
    if any(s is not None and s < v for s, v in zip(size, value, strict=True)):
        raise ValueError(
            f"Argument `{name}` must not be larger than the image it looks at. "
            f"Received: {name}={value} for {size[0]}×{size[1]} pixels"
        )


def check_labels(
    labels: Any, classes: int, name: str = "labels", several: bool = True
) -> None:
    """Raises an error if labels have the wrong shape or lie outside the classes.

    Values are not known while a step is compiled. TensorFlow then checks them when the
    step runs, and raises `tf.errors.InvalidArgumentError`. Other compilers, including
    XLA, do not check values.

    Args:
        labels: integers `(batch,)` or `(batch, 1)`, or a one-hot or multi-hot
            matrix `(batch, classes)`. With one class, labels are always indicators,
            1 where the class is present, and may also have shape `(batch,)`.
        classes: the number of classes.
        name: name of the argument, for the error message.
        several: whether rows of the matrix may be multi-hot, or soft labels as from
            label smoothing or mixup.

    Raises:
        ValueError: the labels have a wrong shape; are text; are not integers or lie
            outside `[0, classes)`; are indicators outside `[0, 1]`; or are multi-hot or
            soft although `several` is False.

    Example:

    >>> check_labels([0, 10], classes=10, name="y")
    Traceback (most recent call last):
    ...
    ValueError: Argument `y` holds the label 10, expected integers from 0 to 9.
    """
    labels = labels if hasattr(labels, "shape") else np.asarray(labels)
    matrix = labels_are_indicators(labels.shape, classes, name)
    one_hot = matrix and not several
    if matrix:
        high, expected = 1, "indicators from 0 to 1"
    else:
        high, expected = classes - 1, f"integers from 0 to {classes - 1}"
    values = _known_values(labels)
    if values is None:
        outside = f"Argument `{name}` holds a label that is not among {expected}."
        assert_in_graph(
            lambda x: ops.all(_allowed(x, high, matrix, ops.floor)), labels, outside
        )
        if one_hot:
            soft, several = _SOFT.format(name), _NOT_ONE_HOT.format(name)
            assert_in_graph(lambda x: ops.all(x == ops.floor(x)), labels, soft)
            assert_in_graph(
                lambda x: ops.all(ops.sum(ops.reshape(x, (-1, classes)), -1) == 1.0),
                labels,
                several,
            )
        return
    if values.dtype.kind in "OSU":
        raise ValueError(
            f"Argument `{name}` holds labels of type {values.dtype}, expected "
            f"{expected}."
        )
    outside = values[~_allowed(values, high, matrix, np.floor)]
    if outside.size:
        raise ValueError(
            f"Argument `{name}` holds the label {outside[0]}, expected {expected}."
        )
    if one_hot and (values != np.floor(values)).any():
        raise ValueError(_SOFT.format(name))
    if one_hot and (values.reshape(-1, classes).sum(-1) != 1).any():
        raise ValueError(_NOT_ONE_HOT.format(name))


def check_count_of_classes(
    labels: Any, classes: int, most: int, reason: str, name: str = "labels"
) -> None:
    """Raises an error if a row of labels has too many classes.

    Within a compiled step, values are checked as described in `check_labels`.

    Args:
        labels: labels that `check_labels` accepts.
        classes: the number of classes.
        most: the maximum number of indicators of 1 in a row. Soft labels below 1 are
            not counted.
        reason: reason of the limit, for the error message.
        name: name of the argument, for the error message.

    Raises:
        ValueError: a row has more than `most` indicators of 1.

    Example:

    >>> check_count_of_classes([[1, 1, 0]], 3, 1, "images show one", name="y")
    Traceback (most recent call last):
    ...
    ValueError: Argument `y` holds rows of more than 1 classes: images show one.
    """
    labels = labels if hasattr(labels, "shape") else np.asarray(labels)
    if not labels_are_indicators(labels.shape, classes, name) or classes <= most:
        return
    message = _TOO_MANY.format(name, most, reason)
    values = _known_values(labels)
    if values is None:
        assert_in_graph(
            lambda x: ops.all(ops.sum(ops.cast(x == 1.0, "int32"), -1) <= most),
            labels,
            message,
        )
    elif ((values == 1).sum(-1) > most).any():
        raise ValueError(message)


def labels_are_indicators(shape: tuple, classes: int, name: str) -> bool:
    """Returns whether labels of this shape are one-hot or multi-hot, not integers.

    Labels of one class are always indicators.

    Args:
        shape: shape of the labels.
        classes: the number of classes.
        name: name of the argument, for the error message.

    Raises:
        ValueError: the shape fits neither kind of labels.
    """
    shape = tuple(shape)
    if (len(shape) == 2 and shape[1] == classes) or (len(shape) == 1 == classes):
        return True
    if len(shape) == 1 or (len(shape) == 2 and shape[1] == 1):
        return False
    raise ValueError(
        f"Argument `{name}` must have shape (batch,) or (batch, 1) for integer "
        f"labels, or (batch, {classes}) for one-hot and multi-hot labels. "
        f"Received shape: {shape}"
    )


def _known_values(x):
    """Returns the values of a tensor, or `None` if they are not known yet."""
    try:
        return np.asarray(ops.convert_to_numpy(x))
    except (NotImplementedError, RuntimeError, TypeError, ValueError):
        return None


def _allowed(x, high, fractions, floor):
    """Returns which labels lie from 0 to `high`, and are integers if required."""
    inside = (x >= 0) & (x <= high)
    return inside if fractions else inside & (x == floor(x))


def _integer(name, value, least):
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(
            f"Argument `{name}` must be an integer of at least {least}. "
            f"Received: {name}={value!r}"
        )
    return int(value)
