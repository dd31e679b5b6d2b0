import keras
import numpy as np
import pytest
from helpers import close, slope

from keras_capsules.ops.votes import kernel_by_child
from keras_capsules.routing._block_votes import BlockVotes


def tensor(x):
    return keras.ops.convert_to_tensor(x, "float32")


@pytest.fixture(params=["vectors", "matrices with squares", "weights by parent"])
def case(request):
    rng = np.random.default_rng(0)
    squares = request.param != "vectors"
    p, q, r = (4, 4, 4) if squares else (1, 8, 5)
    poses, kernel = rng.normal(size=(3, 6, p, q)), rng.normal(size=(6, 5, q, r))
    first = rng.uniform(size=(3, 5 if request.param == "weights by parent" else 1, 6))
    votes = np.einsum("nipq,ijqr->njipr", poses, kernel).reshape(3, 5, 6, p * r)
    return (poses, kernel, first, squares), votes


def block_of(poses, kernel, first, squares):
    matrices = kernel_by_child(tensor(kernel))
    return BlockVotes(tensor(poses), matrices, tensor(first), squares)


def powers_of(votes, first, squares):
    """`[V]`, or deviations from the mean of the first weights and their squares."""
    if not squares:
        return [votes]
    shares = np.broadcast_to(first / first.sum(-1, keepdims=True), votes.shape[:3])
    deviations = votes - np.einsum("nji,njih->njh", shares, votes)[:, :, None]
    return [deviations, deviations**2]


def test_moments_and_scores_are_sums_over_votes(case):
    (*arrays, first, squares), whole = case
    rng = np.random.default_rng(1)
    votes = block_of(*arrays, first, squares)
    powers = powers_of(whole, first, squares)
    for found, expected in zip(votes.powers, powers, strict=True):
        close(found, expected, rtol=1e-3, atol=1e-4)
    weights = rng.uniform(size=(3, 5, 6)).astype("float32")
    zeroth, *others = votes.moments(tensor(weights))
    close(zeroth, weights.sum(-1, keepdims=True))
    for m, v in zip(others, powers, strict=True):
        close(m, np.einsum("nji,njih->njh", weights, v), atol=1e-4)
    c = [rng.normal(size=m.shape).astype("float32") for m in (zeroth, *others)]
    expected = c[0] + sum(
        np.einsum("njh,njih->nji", x, v) for x, v in zip(c[1:], powers, strict=True)
    )
    close(votes.scores([tensor(x) for x in c]), expected, rtol=1e-3, atol=1e-3)
    two = votes.scores([tensor(np.stack([x, -x], axis=2)) for x in c])
    close(two, np.stack([expected, -expected], axis=2), rtol=1e-3, atol=1e-3)


def test_initial_moments_are_those_of_the_initial_weights(case):
    arguments, _ = case
    votes = block_of(*arguments)
    expected = np.broadcast_to(arguments[2], (3, 5, 6)).astype("float32")
    close(votes.initial_weights, expected)
    pairs = zip(
        votes.initial_moments, votes.moments(votes.initial_weights), strict=True
    )
    for found, expected in pairs:
        close(found, expected, atol=1e-4)


def test_gradient_of_moments(case):
    (*arrays, first, squares), _ = case
    rng = np.random.default_rng(1)
    votes = block_of(*arrays, first, squares)
    moments = votes.moments(tensor(np.ones((3, 5, 6))))[1:]
    weights = rng.uniform(size=(2, 3, 5, 6)).astype("float32")
    slopes = [rng.normal(size=(3, 5, 2, m.shape[-1])) for m in moments]
    found = votes.gradient(tuple(map(tensor, weights)), [tensor(x) for x in slopes])

    # The center is held where it is: what is made of moments does not depend on it.
    center = keras.ops.convert_to_numpy(votes.center)[:, :, None] if squares else 0.0

    def total(poses, kernel):
        v = np.einsum("nipq,ijqr->njipr", poses, kernel).reshape(3, 5, 6, -1) - center
        return sum(
            np.sum(np.einsum("tnji,njih->njth", weights, u) * x)
            for u, x in zip([v, v**2], slopes, strict=False)
        )

    directions = [rng.normal(size=x.shape) for x in arrays]
    along_matrices = kernel_by_child(tensor(directions[1]))
    for i, (gradient, direction) in enumerate(
        zip(found, (directions[0], along_matrices), strict=True)
    ):
        along = [d * (i == k) for k, d in enumerate(directions)]
        expected = slope(total, arrays, along)
        actual = float(keras.ops.sum(gradient * tensor(direction)))
        assert actual == pytest.approx(expected, rel=1e-3)


def test_half_precision_ends_where_the_kernel_product_ends():
    rng = np.random.default_rng(0)
    poses, kernel = rng.normal(size=(3, 6, 4, 4)), rng.normal(size=(6, 5, 4, 4))
    poses, kernel = (
        keras.ops.convert_to_tensor(x, "bfloat16") for x in (poses, kernel)
    )
    first = keras.ops.ones((3, 1, 6), "float32")
    votes = BlockVotes(poses, kernel_by_child(kernel), first, True)
    for v in votes.powers:
        assert keras.backend.standardize_dtype(v.dtype) == "float32"


def test_the_first_sum_knows_nothing_of_the_end_of_float16():
    poses = keras.ops.full((1, 2, 1, 8), 150.0, "float16")
    kernel = keras.ops.full((2, 3, 8, 4), 150.0, "float16")
    first = keras.ops.ones((1, 1, 2), "float32")
    votes = BlockVotes(poses, kernel_by_child(kernel), first, False)
    close(votes.powers[0], np.full((1, 3, 2, 4), 6e4), rtol=1e-3)
    mass, total = votes.initial_moments
    close(mass, np.full((1, 3, 1), 2.0))
    close(total, np.full((1, 3, 4), 2 * 8 * 150.0**2), rtol=1e-3)
