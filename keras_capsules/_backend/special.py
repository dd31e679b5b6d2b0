"""Special functions that `keras.ops` or export formats lack."""

from typing import Any

import keras
from keras import ops


def digamma(x: Any) -> Any:
    """Computes the logarithmic derivative of the gamma function elementwise.

    Args:
        x: tensor of floats above 0.

    Returns:
        Tensor of the shape and dtype of `x`.

    Example:

    >>> import keras
    >>> round(float(digamma(keras.ops.convert_to_tensor(1.0))), 4)
    -0.5772
    """
    return _BACKENDS[keras.backend.backend()](x)


def expm1(x: Any) -> Any:
    """Computes `e^x − 1` elementwise, accurately also near 0.

    Args:
        x: tensor of floats of at most 1. The result is less accurate for larger values.

    Returns:
        Tensor of the shape and dtype of `x`.

    Example:

    >>> import keras
    >>> round(float(expm1(keras.ops.convert_to_tensor(1.0))), 4)
    1.7183
    """
    if keras.backend.backend() != "tensorflow":
        return ops.expm1(x)
    # ONNX and LiteRT have no expm1. On other backends `ops.tanh` would round float64.
    half = ops.tanh(0.5 * x)
    return 2.0 * half / (1.0 - half)


def _tensorflow(x):
    import tensorflow as tf

    return tf.math.digamma(x)


def _jax(x):
    import jax

    return jax.scipy.special.digamma(x)


def _torch(x):
    import torch

    return torch.digamma(x)


_BACKENDS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
