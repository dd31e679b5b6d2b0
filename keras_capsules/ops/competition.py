"""Competition of parents for children."""

from typing import Any

from keras import ops

from keras_capsules._backend import amax
from keras_capsules.ops.receptive_fields import ReceptiveFields


def compete(
    scores: Any, receptive_fields: ReceptiveFields | None = None, amounts: Any = None
) -> Any:
    """Computes the softmax of each child over all parents that compete for it.

    Args:
        scores: logits of the assignments, `(batch·positions, parents, children)`.
        receptive_fields: the receptive fields of the positions. All parents whose
            fields contain a child compete for it, at every position. Without receptive
            fields only the parents of one position compete, as if each position had
            its own children.
        amounts: the sum of the assignments of each child, such as its activation,
            `(batch·positions, children)`; 1 by default.

    Returns:
        Assignments, a tensor of the shape of `scores`. Those of a child sum to its
        amount. For each child the maximum is subtracted before exponentiation, so that
        nothing overflows.

    Example:

    >>> import keras
    >>> from keras_capsules.ops import compete
    >>> assignments = compete(keras.ops.zeros((2, 4, 3)))
    >>> float(assignments[0, 0, 0])
    0.25

    Reference:
        Hinton, Sabour and Frosst, Matrix capsules with EM routing (2018),
        section 4 and appendix 1.
    """
    scores = ops.convert_to_tensor(scores)
    highest = ops.stop_gradient(amax(scores, axis=1, keepdims=True))
    assignments = ops.exp(scores - highest)
    # Log-sum-exp over the parents at one position, (batch·positions, 1, children)
    evidence = ops.log(ops.sum(assignments, axis=1, keepdims=True)) + highest
    if receptive_fields is not None and len(receptive_fields.positions) > 1:
        evidence = _over_fields(evidence, receptive_fields)
    shares = ops.exp(highest - evidence)
    if amounts is not None:
        shares = shares * ops.expand_dims(amounts, 1)
    return assignments * shares


def _over_fields(evidence, fields):
    """Computes the log-sum-exp over all fields that contain the same child."""
    positions, children = fields.children.shape
    child = ops.convert_to_tensor(fields.children.ravel(), "int32")
    # (positions·children, batch)
    evidence = ops.transpose(ops.reshape(evidence, (-1, positions * children)))
    highest = ops.stop_gradient(ops.segment_max(evidence, child, fields.count))
    highest = ops.take(highest, child, axis=0)
    total = ops.segment_sum(ops.exp(evidence - highest), child, fields.count)
    evidence = ops.log(ops.take(total, child, axis=0)) + highest
    return ops.reshape(ops.transpose(evidence), (-1, 1, children))
