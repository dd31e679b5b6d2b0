"""Checks of values that are not known before a graph runs."""

from typing import Any

import keras


def assert_in_graph(condition: Any, tensor: Any, message: str) -> None:
    """Checks a tensor when the graph runs, if the backend supports it.

    Only TensorFlow does. Functions that XLA compiles leave the check out.

    Args:
        condition: function that takes the tensor in float32 and returns a boolean.
        tensor: the tensor.
        message: message of the `tf.errors.InvalidArgumentError`.

    Example:

    >>> import keras
    >>> assert_in_graph(lambda x: keras.ops.all(x > 0), keras.ops.ones(2), "x > 0")
    """
    if keras.backend.backend() != "tensorflow" or not keras.ops.is_tensor(tensor):
        return
    import tensorflow as tf

    tf.debugging.Assert(condition(tf.cast(tensor, tf.float32)), [message])
