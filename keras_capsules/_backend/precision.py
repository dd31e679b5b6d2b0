"""Tensors of 64 bits."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops


@contextmanager
def float64() -> Iterator[None]:
    """Within it tensors may be float64, which JAX refuses by default.

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
    """Matrix product that keeps float64, which `ops.matmul` rounds on PyTorch.

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
    double = keras.backend.standardize_dtype(x.dtype) == "float64"
    if double and keras.backend.backend() == "torch":
        import torch

        return torch.matmul(x, y)
    return ops.matmul(x, y)
