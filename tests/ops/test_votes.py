import keras
import numpy as np
import pytest
from helpers import close, slope

from keras_capsules.ops import Votes, by_child, votes


@pytest.mark.parametrize("pose", [(1, 8, 16), (4, 4, 4), (2, 3, 5)])
def test_vote_is_pose_times_kernel(pose):
    p, q, r = pose
    rng = np.random.default_rng(0)
    poses = rng.normal(size=(3, 6, p, q)).astype("float32")
    kernel = rng.normal(size=(6, 5, q, r)).astype("float32")
    expected = np.empty((3, 5, 6, p, r))
    for n, j, i in np.ndindex(3, 5, 6):
        expected[n, j, i] = poses[n, i] @ kernel[i, j]
    close(votes(poses, kernel), expected, atol=1e-5)


@pytest.fixture(params=["vectors", "matrices with squares"])
def problem(request):
    rng = np.random.default_rng(0)
    p, q, r, degree = (1, 8, 5, 1) if request.param == "vectors" else (4, 4, 4, 2)
    poses, kernel = rng.normal(size=(3, 6, p, q)), rng.normal(size=(6, 5, q, r))
    first = rng.uniform(size=(3, 6))
    whole = np.einsum("nipq,ijqr->njipr", poses, kernel).reshape(3, 5, 6, p * r)
    return (poses, kernel, first, degree), whole


def tensor(x):
    return keras.ops.convert_to_tensor(x, "float32")


def block_of(poses, kernel, first, degree):
    poses, kernel, first = map(tensor, (poses, kernel, first))
    return Votes(poses, by_child(poses, kernel), first, degree)


def test_moments_and_scores_are_sums_over_votes(problem):
    (*arrays, first, degree), whole = problem
    rng = np.random.default_rng(1)
    votes = block_of(*arrays, first, degree)
    shares = first / first.sum(1, keepdims=True)
    center = np.einsum("ni,njih->njh", shares, whole)
    close(votes.center, center, atol=1e-5)
    powers = [whole, (whole - center[:, :, None]) ** 2][:degree]
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


def test_first_moments_are_those_of_the_first_weights(problem):
    arguments, _ = problem
    votes = block_of(*arguments)
    pairs = zip(votes.first_moments(), votes.moments(votes.first), strict=True)
    for found, expected in pairs:
        close(found, expected, atol=1e-4)


def test_gradient_of_moments(problem):
    (*arrays, first, degree), _ = problem
    rng = np.random.default_rng(1)
    votes = block_of(*arrays, first, degree)
    moments = votes.moments(tensor(np.ones((3, 5, 6))))[1:]
    weights = rng.uniform(size=(3, 5, 2, 6)).astype("float32")
    slopes = [rng.normal(size=(3, 5, 2, m.shape[-1])) for m in moments]
    found = votes.gradient(tensor(weights), [tensor(x) for x in slopes])

    # The center is held where it is: the moments that parents see do not need it.
    center = keras.ops.convert_to_numpy(votes.center)

    def total(poses, kernel):
        v = np.einsum("nipq,ijqr->njipr", poses, kernel).reshape(3, 5, 6, -1)
        powers = [v, (v - center[:, :, None]) ** 2][:degree]
        return sum(
            np.sum(np.einsum("njti,njih->njth", weights, v) * x)
            for v, x in zip(powers, slopes, strict=True)
        )

    directions = [rng.normal(size=x.shape) for x in arrays]
    matrices = by_child(*(tensor(d) for d in directions))
    for i, (gradient, direction) in enumerate(
        zip(found, (directions[0], matrices), strict=True)
    ):
        along = [d * (i == k) for k, d in enumerate(directions)]
        expected = slope(total, arrays, along)
        actual = float(keras.ops.sum(gradient * tensor(direction)))
        assert actual == pytest.approx(expected, rel=1e-3)


def test_half_precision_ends_where_the_kernel_product_ends():
    rng = np.random.default_rng(0)
    poses, kernel = rng.normal(size=(3, 6, 4, 4)), rng.normal(size=(6, 5, 4, 4))
    tensors = [keras.ops.convert_to_tensor(x, "bfloat16") for x in (poses, kernel)]
    first = keras.ops.ones((3, 6), "float32")
    votes = Votes(tensors[0], by_child(*tensors), first, degree=2)
    for v in votes.powers:
        assert keras.backend.standardize_dtype(v.dtype) == "float32"


def test_float16_votes_end_before_infinity():
    poses = keras.ops.full((1, 2, 1, 8), 150.0, "float16")
    kernel = keras.ops.full((2, 3, 8, 4), 150.0, "float16")
    votes = Votes(poses, by_child(poses, kernel), keras.ops.ones((1, 2), "float32"))
    close(votes.powers[0], np.full((1, 3, 2, 4), 6e4))
    # The product of poses is in float32: it knows what the votes would have been.
    mass, total = votes.first_moments()
    close(mass, np.full((1, 3, 1), 2.0))
    close(total, np.full((1, 3, 4), 2 * 8 * 150.0**2), rtol=1e-3)
