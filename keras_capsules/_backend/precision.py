"""Computations in float64."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops


@contextmanager
def float64() -> Iterator[None]:
    """A context that allows float64 tensors, which JAX disables by default.

    Example:

    >>> import keras
    >>> with float64():
    ...     x = keras.ops.ones((), "float64")
    >>> keras.backend.standardize_dtype(x.dtype)
    'float64'
    """
    if keras.backend.backend() != "jax":
        yield
        return
    import jax

    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


def matmul(x: Any, y: Any) -> Any:
    """Computes a matrix product in float64 too, which `ops.matmul` rounds on PyTorch.

    Args:
        x: tensor of matrices.
        y: tensor of matrices of the same dtype.

    Returns:
        Their products.

    Example:

    >>> import keras
    >>> float(matmul(keras.ops.ones((1, 3)), keras.ops.ones((3, 1)))[0, 0])
    3.0
    """
    if _is_double(x) and keras.backend.backend() == "torch":
        import torch

        return torch.matmul(x, y)
    return ops.matmul(x, y)


def mean(x: Any, axis: int | tuple) -> Any:
    """Computes the mean in float64 too, which `ops.mean` rounds on PyTorch and JAX.

    Args:
        x: tensor of floats.
        axis: the axis or axes to reduce; they are kept with size 1.

    Returns:
        The means.

    Example:

    >>> import keras
    >>> tuple(mean(keras.ops.ones((2, 3)), axis=-1).shape)
    (2, 1)
    """
    if _is_double(x) and keras.backend.backend() != "tensorflow":
        return x.mean(axis, keepdims=True)
    return ops.mean(x, axis, keepdims=True)


def _is_double(x):
    return keras.backend.standardize_dtype(x.dtype) == "float64"
