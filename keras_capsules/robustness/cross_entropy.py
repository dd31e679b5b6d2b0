from typing import Any

from keras import ops

from keras_capsules.ops import class_indicators

_TINY = 1e-30  # the logarithm and the inverse are finite in float32


def cross_entropy(y_true: Any, y_pred: Any) -> Any:
    """Computes a cross-entropy of scores for adversarial attacks.

    `L = ln Σ_k s_k − ln s_t`, where s are the scores and t is the class of the sample.

    The gradient of this loss is zero only if all scores of other classes are exactly 0.
    Other losses have a zero gradient for images that a network classifies with high
    confidence: the margin loss, the spread loss, and Keras's cross-entropy on JAX and
    PyTorch, which clips probabilities to 1e-7 and 1 − 1e-7. With this loss, capsule
    networks and other networks can be attacked in the same way on every backend.

    Args:
        y_true: integer labels `(batch,)` or `(batch, 1)`, or one-hot labels
            `(batch, classes)`.
        y_pred: a non-negative score for each class, such as a probability or the
            length of a capsule, `(batch, classes)`.

    Returns:
        A float32 tensor `(batch,)`, the loss of each sample.

    Raises:
        ValueError: the labels have a wrong shape.

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
