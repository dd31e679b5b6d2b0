"""Checks of arguments: each raises a ValueError that names the argument."""

from collections.abc import Collection
from numbers import Integral, Real
from typing import Any


def positive_integer(name: str, value: Any) -> int:
    """Returns `value` as an int if it is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(
            f"Argument `{name}` must be an integer of at least 1. "
            f"Received: {name}={value!r}"
        )
    return int(value)


def positive(name: str, value: Any) -> float:
    """Returns `value` if it is a number above 0."""
    if isinstance(value, bool) or not isinstance(value, Real) or not value > 0:
        raise ValueError(
            f"Argument `{name}` must be a number above 0. Received: {name}={value!r}"
        )
    return value


def flag(name: str, value: Any) -> bool:
    """Returns `value` if it is True or False."""
    if not isinstance(value, bool):
        raise ValueError(
            f"Argument `{name}` must be True or False. Received: {name}={value!r}"
        )
    return value


def positive_integers(name: str, value: Any, length: int | None) -> tuple[int, ...]:
    """Returns `value` as a tuple if it is one of `length` integers of at least 1.

    Any length will do if `length` is `None`.
    """
    if not isinstance(value, (tuple, list)) or length not in (None, len(value)):
        raise ValueError(
            f"Argument `{name}` must be a tuple of {length or 'some'} integers. "
            f"Received: {name}={value!r}"
        )
    return tuple(positive_integer(name, element) for element in value)


def window(name: str, value: Any) -> tuple[int, int]:
    """Returns height and width; an integer stands for both."""
    if isinstance(value, Integral):
        value = (value, value)
    return positive_integers(name, value, 2)


def pose_shape(name: str, value: Any) -> int | tuple[int, int] | None:
    """Returns the size of a vector, the rows and columns of a matrix, or `None`."""
    if value is None:
        return None
    if isinstance(value, Integral):
        return positive_integer(name, value)
    return positive_integers(name, value, 2)


def one_of(name: str, value: Any, allowed: Collection) -> Any:
    """Returns `value` if it is among `allowed`."""
    if value not in allowed:
        raise ValueError(
            f"Argument `{name}` must be one of {tuple(allowed)}. "
            f"Received: {name}={value!r}"
        )
    return value


def shape(name: str, value: Any, expected: str, rank: int, static: tuple = ()) -> tuple:
    """Returns the shape `value` if it has the rank and the static sizes asked for.

    Args:
        name: what has the shape, for the message.
        value: the shape, or an object that has one.
        expected: the shape in words, for the message.
        rank: how many axes it must have.
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


def grid_of_poses(value: tuple) -> tuple:
    """Returns the shape of poses on a grid, vectors or matrices, if it is one."""
    value = tuple(value)
    if len(value) not in (5, 6) or None in value[1:]:
        raise ValueError(
            "Poses must have shape (batch, height, width, types, D) or (batch, height, "
            f"width, types, P, Q), every size known but the batch. Received: {value}"
        )
    return value


def receptive_field(name: str, value: tuple[int, int], size: tuple) -> None:
    """Raises if the window `value` is larger than an image of `size`.

    Args:
        name: name of the argument that holds the window.
        value: height and width of the window.
        size: height and width of the image; `None` where unknown.
    """
    if any(s is not None and s < v for s, v in zip(size, value, strict=True)):
        raise ValueError(
            f"Argument `{name}` must not be larger than the image it looks at. "
            f"Received: {name}={value} for {size[0]}×{size[1]} pixels"
        )
