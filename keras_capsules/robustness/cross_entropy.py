from typing import Any

from keras import ops

from keras_capsules.ops import class_indicators

_TINY = 1e-30  # its logarithm and its inverse are finite in float32


def cross_entropy(y_true: Any, y_pred: Any) -> Any:
    """Computes the cross-entropy of scores, for attacks.

    `L = ln Σ_k s_k − ln s_t` for the scores s and the class t. Its gradient is not
    zero for an image that a network is sure of, as that of margin and spread loss
    is, and as that of Keras's cross-entropy is on JAX and PyTorch, where
    probabilities are cut off at 1e-7 and 1 − 1e-7; only where all other scores are
    exactly 0 it is. So networks of capsules and others are attacked alike, on every
    backend.

    Args:
        y_true: integer labels `(batch,)` or `(batch, 1)`, or one-hot labels
            `(batch, classes)`.
        y_pred: a score for each class that is not negative, such as a probability
            or the length of a capsule, `(batch, classes)`.

    Returns:
        Tensor `(batch,)` in float32.

    Raises:
        ValueError: the labels have another shape than these.

    Example:

    >>> import numpy as np
    >>> from keras_capsules import robustness
    >>> lengths = np.array([[0.9, 0.3, 0.0]])
    >>> loss = robustness.cross_entropy(np.array([1]), lengths)
    >>> round(float(loss[0]), 3)  # ln 1.2 - ln 0.3
    1.386
    """
    y_pred = ops.cast(y_pred, "float32")
    t = ops.cast(class_indicators(y_true, y_pred.shape[-1], "y_true"), "float32")
    right = ops.sum(t * y_pred, axis=-1)
    return ops.log(ops.sum(y_pred, axis=-1) + _TINY) - ops.log(right + _TINY)
