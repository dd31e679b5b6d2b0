"""Kernels for a GPU against the same sums in NumPy, where votes are kept."""

import numpy as np

# Images, children, parents, P, Q, R, polynomials, and whether there are squares. Of the
# first everything fills its tiles, of the others nothing.
CASES = [
    (64, 32, 2, 1, 8, 16, 1, False),
    (70, 18, 11, 1, 6, 5, 3, False),
    (70, 18, 3, 2, 4, 3, 3, True),
    (20, 5, 3, 2, 3, 4, 1, False),
    (5, 37, 2, 1, 4, 3, 3, True),
    (9, 3, 2, 8, 2, 7, 1, True),
    (5, 3, 2, 1, 65, 2, 1, False),
]


def check(kernels, tensor, array, case):
    """Compares `scores`, `moments` and `gradient` of a module.

    Args:
        kernels: the module.
        tensor: makes a tensor of an array in float32.
        array: makes an array of a tensor.
        case: one of `CASES`.
    """
    images, children, parents, p, q, r, t, squares = case
    rng = np.random.default_rng(0)
    poses = rng.normal(size=(images, children, p, q))
    matrices = rng.normal(size=(children, q, parents, r))
    votes = np.einsum("nipq,iqjr->njipr", poses, matrices)
    of_parents = (images, parents, t, p, r)
    center = [rng.normal(size=(images, parents, p, r))] if squares else []
    deviations = votes - (center[0][:, :, None] if squares else 0.0)
    powers = [deviations, deviations**2][: 1 + squares]
    arguments = tensor(poses), tensor(matrices), tuple(map(tensor, center))

    def close(found, expected):
        error = np.abs(array(found) - expected).max() / np.abs(expected).max()
        assert found.shape == expected.shape and error < 5e-6

    coefficients = [rng.normal(size=of_parents) for _ in powers]
    expected = sum(
        np.einsum("njtpr,njipr->njti", c, u)
        for c, u in zip(coefficients, powers, strict=True)
    )
    close(kernels.scores(*arguments, tuple(map(tensor, coefficients))), expected)

    weights = rng.uniform(size=(images, parents, children))
    found = kernels.moments(*arguments, tensor(weights), len(powers))
    expected = [np.einsum("nji,njipr->njpr", weights, u) for u in powers]
    close(found, np.stack(expected, axis=1))

    weights = rng.uniform(size=(t, images, parents, children))
    slopes = [rng.normal(size=of_parents) for _ in powers]
    inputs = (tuple(map(tensor, x)) for x in (weights, slopes))
    found = kernels.gradient(*arguments, *inputs)
    gradient = np.einsum("tnji,njtpr->njipr", weights, slopes[0])
    if squares:
        steep = np.einsum("tnji,njtpr->njipr", weights, slopes[1])
        gradient += 2.0 * deviations * steep
    close(found[0], np.einsum("njipr,iqjr->nipq", gradient, matrices))
    close(found[1], np.einsum("njipr,nipq->iqjr", gradient, poses))
