"""The largest and the smallest element along an axis."""

from typing import Any

import keras
from keras import ops


def amax(x: Any, axis: int, keepdims: bool = False) -> Any:
    """`ops.max` that also takes batches of no images.

    PyTorch, and TensorFlow outside of a graph, refuse a tensor without elements.

    Args:
        x: tensor of any shape.
        axis: the axis to reduce, which has elements.
        keepdims: whether it stays, with size 1.

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
    """The smallest elements, see `amax`.

    Example:

    >>> import keras
    >>> [float(y) for y in amin(keras.ops.convert_to_tensor([[3.0, 1.0, 2.0]]), axis=1)]
    [1.0]
    """
    return -amax(-x, axis, keepdims)
