"""Sizes that are not known before a graph runs."""

from typing import Any

import keras


def with_static_shape(x: Any, shape: tuple) -> Any:
    """A tensor whose sizes are known, as far as `shape` has them.

    Only TensorFlow has tensors of unknown sizes: a data set of pictures that were
    decoded, for instance. The sizes are checked when the graph runs.

    Args:
        x: tensor.
        shape: its shape, with `None` for what may be anything.

    Returns:
        The tensor.

    Raises:
        tf.errors.InvalidArgumentError: when the graph runs, the sizes are others.

    Example:

    >>> import keras
    >>> tuple(with_static_shape(keras.ops.ones((2, 3)), (None, 3)).shape)
    (2, 3)
    """
    if keras.backend.backend() != "tensorflow" or not keras.ops.is_tensor(x):
        return x
    if x.shape.rank is not None and None not in x.shape[1:]:
        return x
    import tensorflow as tf

    return tf.ensure_shape(x, shape)
