"""Common implementations of routing in plain `keras.ops`, as references on a GPU."""

from typing import Any

from keras import ops


def dynamic_routing(poses: Any, kernel: Any, iterations: int = 3) -> Any:
    """Computes dynamic routing with stored votes.

    Args:
        poses: poses of the children, `(batch, children, Q)`.
        kernel: transformation matrices, `(children, parents, Q, R)`.
        iterations: number of routing iterations.

    Returns:
        Poses of the parents, `(batch, parents, R)`.

    Reference:
        Sabour, Frosst and Hinton, Dynamic routing between capsules (2017),
        procedure 1.
    """
    votes = ops.einsum("niq,ijqr->nijr", poses, kernel)
    logits = ops.zeros_like(votes[..., 0])
    for t in range(iterations):
        total = ops.einsum("nij,nijr->njr", ops.softmax(logits, axis=2), votes)
        square = ops.sum(total * total, axis=-1, keepdims=True)
        parents = total * square / (1.0 + square) / ops.sqrt(square + 1e-7)
        if t + 1 < iterations:
            logits = logits + ops.einsum("njr,nijr->nij", parents, votes)
    return parents


def convolutional_em_routing(
    poses: Any,
    activations: Any,
    kernel: Any,
    beta_u: Any,
    beta_a: Any,
    iterations: int = 3,
) -> tuple[Any, Any]:
    """Computes EM routing in separate patches of 3 × 3 with strides of 2.

    Args:
        poses: poses of the children, `(batch, rows, columns, types, 4, 4)`.
        activations: activations of the children, `(batch, rows, columns, types)`.
        kernel: transformation matrices, `(3, 3, types, parents, 4, 4)`.
        beta_u: β_u of the paper for each parent, `(parents,)`.
        beta_a: β_a of the paper for each parent, `(parents,)`.
        iterations: number of routing iterations.

    Returns:
        Poses `(batch·fields, parents, 16)` and activations `(batch·fields, parents)`
        of the parents.

    Reference:
        Hinton, Sabour and Frosst, Matrix capsules with EM routing (2018), procedure 1.
    """
    parents = kernel.shape[3]
    kernel = ops.reshape(kernel, (-1, parents, 4, 4))
    children = kernel.shape[0]
    poses = ops.reshape(_patches(poses), (-1, children, 4, 4))
    activations = ops.reshape(_patches(activations), (-1, 1, children))
    votes = ops.einsum("nipq,ijqr->njipr", poses, kernel)
    votes = ops.reshape(votes, (-1, parents, children, 16))
    assignments = ops.full_like(votes[..., 0], 1.0 / parents)
    for t in range(iterations):
        weights = assignments * activations  # (batch, parents, children)
        mass = ops.sum(weights, axis=2)[..., None] + 1e-7
        means = ops.einsum("nji,njih->njh", weights, votes) / mass
        squares = ops.square(votes - means[:, :, None])
        variances = ops.einsum("nji,njih->njh", weights, squares) / mass + 1.0
        logs = ops.log(variances)
        cost = ops.sum((beta_u[:, None] + 0.5 * logs) * mass, axis=-1)
        steepness = 0.01 * (1.0 - 0.95 ** (t + 1))
        active = ops.sigmoid(steepness * (beta_a - cost))  # (batch, parents)
        if t + 1 < iterations:
            scaled = ops.sum(squares / variances[:, :, None], axis=-1)
            density = -0.5 * (scaled + ops.sum(logs, axis=-1)[..., None])
            assignments = ops.softmax(ops.log(active)[..., None] + density, axis=1)
    return means, active


def _patches(x):
    """Returns patches of 3 × 3 with strides of 2.

    Args:
        x: `(batch, rows, columns, …)`.

    Returns:
        Patches, `(batch, fields, fields, 3, 3, …)`.
    """
    size = (x.shape[1] - 3) // 2 + 1
    rows = [x[:, k : k + 2 * size - 1 : 2] for k in range(3)]
    x = ops.stack(rows, axis=2)  # (batch, fields, 3, columns, …)
    columns = [x[:, :, :, k : k + 2 * size - 1 : 2] for k in range(3)]
    x = ops.stack(columns, axis=4)  # (batch, fields, 3, fields, 3, …)
    return ops.moveaxis(x, 3, 2)
