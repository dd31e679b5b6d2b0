"""The largest and the smallest element along an axis."""

from typing import Any

import keras
from keras import ops


def amax(x: Any, axis: int, keepdims: bool = False) -> Any:
    """Computes the largest elements along an axis, also of an empty batch.

    `ops.max` fails for a tensor without elements on PyTorch, and on TensorFlow outside
    of a graph.

    Args:
        x: tensor of any shape.
        axis: the axis to reduce, of size 1 or more.
        keepdims: whether the axis is kept with size 1.

    Returns:
        The largest elements.

    Example:

    >>> import keras
    >>> tuple(amax(keras.ops.zeros((0, 3)), axis=1).shape)
    (0,)
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.reduce_max(x, axis, keepdims)
    return ops.amax(x, axis, keepdims)


def amin(x: Any, axis: int, keepdims: bool = False) -> Any:
    """Computes the smallest elements along an axis, see `amax`.

    Example:

    >>> import keras
    >>> [float(y) for y in amin(keras.ops.convert_to_tensor([[3.0, 1.0, 2.0]]), axis=1)]
    [1.0]
    """
    return -amax(-x, axis, keepdims)
