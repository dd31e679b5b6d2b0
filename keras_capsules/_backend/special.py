"""Special functions that `keras.ops` lacks."""

from typing import Any

import keras


def digamma(x: Any) -> Any:
    """The logarithmic derivative of the gamma function, element by element.

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
