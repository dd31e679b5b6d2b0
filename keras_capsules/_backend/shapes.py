"""Shapes that are not known before a graph runs."""

from typing import Any

import keras


def with_static_shape(x: Any, shape: tuple) -> Any:
    """Sets the static shape of a tensor.

    Only TensorFlow has tensors of unknown sizes, for instance in a data set of decoded
    images. The sizes are checked when the graph runs.

    Args:
        x: tensor.
        shape: its shape, with `None` for sizes that may vary.

    Returns:
        The tensor with this static shape.

    Raises:
        tf.errors.InvalidArgumentError: the sizes differ when the graph runs.

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
