"""Norms of vectors, and squash functions that keep lengths below 1."""

from typing import Any

import keras
from keras import ops

from keras_capsules._backend import expm1


def at_least_float32(x: Any) -> Any:
    """Casts a float16 or bfloat16 tensor to float32, and keeps wider dtypes.

    Args:
        x: tensor of any shape.

    Returns:
        The tensor in float32, or in its own dtype if that is wider.

    Example:

    >>> import keras
    >>> from keras_capsules.ops import at_least_float32
    >>> x = keras.ops.ones((2,), dtype="bfloat16")
    >>> keras.backend.standardize_dtype(at_least_float32(x).dtype)
    'float32'
    """
    x = ops.convert_to_tensor(x)
    return ops.cast(x, dtype_at_least_float32(x.dtype))


def dtype_at_least_float32(dtype: Any) -> str:
    """Returns the dtype of `at_least_float32(x)` for an `x` of the given dtype.

    Args:
        dtype: a floating-point dtype.

    Returns:
        The name of the dtype.

    Example:

    >>> dtype_at_least_float32("bfloat16"), dtype_at_least_float32("float64")
    ('float32', 'float64')
    """
    dtype = keras.backend.standardize_dtype(dtype)
    return "float32" if dtype in ("float16", "bfloat16") else dtype


def at_least(x: Any, least: Any) -> Any:
    """Computes the elementwise maximum without rounding.

    On PyTorch `ops.maximum` rounds float64 to float32.

    Args:
        x: tensor of any shape.
        least: a number, or a tensor that broadcasts with `x`. Where `x` is larger, the
            gradient flows to `x` only, elsewhere to `least` only.

    Returns:
        Tensor of the dtype of `x`.

    Example:

    >>> import keras
    >>> [float(y) for y in at_least(keras.ops.arange(3.0), 1.5)]
    [1.5, 1.5, 2.0]
    """
    x = ops.convert_to_tensor(x)
    least = ops.convert_to_tensor(least, dtype=x.dtype)
    return ops.where(x > least, x, least)


def safe_norm(
    x: Any, axis: int | tuple = -1, keepdims: bool = False, epsilon: float = 1e-7
) -> Any:
    """Computes a Euclidean norm whose gradient is finite at zero.

    Args:
        x: tensor of any shape.
        axis: the axis or axes of a vector.
        keepdims: whether the reduced axes are kept with size 1.
        epsilon: added under the root, so that a zero vector has norm
            `sqrt(epsilon)` and gradient 0.

    Returns:
        The norms, in the shape of `x` without `axis`. Their dtype is at least float32,
        because in float16 a sum of squares would overflow and `epsilon` round to zero.

    Example:

    >>> import keras
    >>> from keras_capsules.ops import safe_norm
    >>> norms = safe_norm(keras.ops.ones((2, 10, 16)))
    >>> tuple(norms.shape), round(float(norms[0, 0]), 3)
    ((2, 10), 4.0)
    """
    x = at_least_float32(x)
    return ops.sqrt(ops.sum(ops.square(x), axis=axis, keepdims=keepdims) + epsilon)


def squash(x: Any, axis: int | tuple = -1, epsilon: float = 1e-7) -> Any:
    """Shrinks vectors to a length below 1 and keeps their direction.

    `squash(s) = |s|² / (1 + |s|²) · s / |s|`: short vectors shrink to almost
    zero, long ones to a length just below 1.

    Args:
        x: tensor of any shape.
        axis: the axis or axes of a vector.
        epsilon: added to the squared norm under the root of the last factor.

    Returns:
        Tensor of the shape and dtype of `x`; computed in at least float32.

    Example:

    >>> import keras
    >>> from keras_capsules.ops import squash
    >>> poses = squash(3.0 * keras.ops.ones((1, 1)))
    >>> round(float(poses[0, 0]), 3)
    0.9

    Reference:
        Sabour, Frosst and Hinton, Dynamic routing between capsules (2017),
        equation 1.
    """
    x = ops.convert_to_tensor(x)
    s = _square_fits(x)
    squared_norm = ops.sum(ops.square(s), axis=axis, keepdims=True)
    scale = squared_norm / (1.0 + squared_norm) / ops.sqrt(squared_norm + epsilon)
    return ops.cast(scale * s, x.dtype)


def exponential_squash(x: Any, axis: int | tuple = -1, epsilon: float = 1e-7) -> Any:
    """Shrinks vectors to length `1 − exp(−length)` and keeps their direction.

    `squash(s) = (1 − e^(−|s|)) · s / |s|`. The gradient of this function does not
    vanish for vectors near zero, whereas that of `squash` does.

    Args:
        x: tensor of any shape.
        axis: the axis or axes of a vector.
        epsilon: added to the squared norm under the root.

    Returns:
        Tensor of the shape and dtype of `x`; computed in at least float32.

    Example:

    >>> import keras
    >>> from keras_capsules.ops import exponential_squash
    >>> poses = exponential_squash(3.0 * keras.ops.ones((1, 1)))
    >>> round(float(poses[0, 0]), 3)
    0.95

    Reference:
        Mazzia, Salvetti and Chiaberge, Efficient-CapsNet: capsule network with
        self-attention routing (2021), equation 2.
    """
    x = ops.convert_to_tensor(x)
    s = _square_fits(x)
    length = safe_norm(s, axis, keepdims=True, epsilon=epsilon)
    return ops.cast(-expm1(-length) * s / length, x.dtype)


def _square_fits(x):
    # Larger squares would overflow. The squashed length is 1 at this limit already.
    return ops.clip(at_least_float32(x), -1e15, 1e15)
