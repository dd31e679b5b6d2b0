import keras
import numpy as np
import pytest
import reference
from helpers import check_gradients, close, finite, float32, gradients

from keras_capsules import routing

LOOPS = ("while", "unroll")
# Poses (batch, children, P, Q) and kernel (children, parents, Q, R).
SHAPES = {
    "vectors": ((2, 7, 1, 4), (7, 3, 4, 5)),
    "matrices": ((2, 6, 4, 4), (6, 3, 4, 3)),
}


@pytest.fixture(params=SHAPES)
def problem(request):
    """Poses, kernel, gain and bias."""
    rng = np.random.default_rng(0)
    poses, kernel = SHAPES[request.param]
    size = poses[2] * kernel[3]
    return (
        rng.normal(size=poses),
        0.5 * rng.normal(size=kernel),
        rng.normal(size=size),
        rng.normal(size=size),
    )


def built(problem, *args, **kwargs):
    route = routing.InvertedAttentionRouting(*args, **kwargs)
    route.build(problem[0].shape, problem[1].shape)
    gain, bias = float32(*problem[2:])
    route.gain.assign(gain)
    route.bias.assign(bias)
    return route


@pytest.mark.parametrize("iterations", [1, 2, 3, 5])
@pytest.mark.parametrize("loop", LOOPS)
def test_values(loop, iterations, problem):
    route = built(problem, iterations, loop=loop)
    poses, kernel = float32(*problem[:2])
    expected, shares = reference.inverted_attention_routing(*problem, iterations)
    parents = route(poses, kernel)
    assert tuple(parents.shape) == (2, 3, poses.shape[2], kernel.shape[3])
    close(keras.ops.reshape(parents, expected.shape), expected, atol=1e-5)
    trace = route.trace(poses, kernel)
    close(trace["parents"][-1], parents, atol=1e-5)
    close(trace["weights"][-1], np.swapaxes(shares, 1, 2))


def test_epsilon_is_added_to_the_variance(problem):
    expected, _ = reference.inverted_attention_routing(*problem, 2, epsilon=0.5)
    parents = built(problem, epsilon=0.5)(*float32(*problem[:2]))
    close(keras.ops.reshape(parents, expected.shape), expected, atol=1e-5)


@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("loop", LOOPS)
def test_gradient_matches_finite_differences(loop, iterations, problem):
    route = built(problem, iterations, loop=loop)
    shape = (2, 3, problem[0].shape[2], problem[1].shape[3])
    weights = np.random.default_rng(2).normal(size=shape)

    def found(poses, kernel, gain, bias):
        with keras.StatelessScope([(route.gain, gain), (route.bias, bias)]):
            return route(poses, kernel)

    def expected(*arrays):
        parents, _ = reference.inverted_attention_routing(*arrays, iterations)
        return parents.reshape(shape)

    check_gradients(found, expected, problem, weights)


def test_stop_gradient_takes_the_shares_as_constants(problem):
    _, shares = reference.inverted_attention_routing(*problem, 2)
    shape = (2, 3, problem[0].shape[2], problem[1].shape[3])
    weights = np.random.default_rng(2).normal(size=shape)
    route = built(problem, stop_gradient=True)

    def found(poses, kernel, gain, bias):
        with keras.StatelessScope([(route.gain, gain), (route.bias, bias)]):
            return route(poses, kernel)

    def expected(poses, kernel, gain, bias):
        votes = reference.flat_votes(poses, kernel)
        total = np.einsum("nij,nijh->njh", shares, votes)
        deviation = np.sqrt(total.var(-1, keepdims=True) + 1e-5)
        normalized = (total - total.mean(-1, keepdims=True)) / deviation
        return (gain * normalized + bias).reshape(shape)

    check_gradients(found, expected, problem, weights)


def test_parents_compete_for_each_child(problem):
    trace = built(problem, 3).trace(*float32(*problem[:2]))
    shares = keras.ops.convert_to_numpy(trace["weights"])
    np.testing.assert_allclose(shares.sum(2), 1.0, rtol=1e-5)
    np.testing.assert_allclose(shares[0], 1 / 3, rtol=1e-5)
    assert shares[2].std() > 0.01


def test_the_vote_that_agrees_with_the_others_wins():
    """All children vote alike for parent 0, and each otherwise for parent 1."""
    poses = np.ones((1, 12, 1, 1), "float32")
    kernel = 3.0 * np.random.default_rng(0).normal(size=(12, 2, 1, 8))
    kernel[:, 0] = kernel[0, 0]
    trace = routing.InvertedAttentionRouting(2).trace(*float32(poses, kernel))
    shares = keras.ops.convert_to_numpy(trace["weights"])[-1, 0]
    assert (shares[0] > shares[1]).all() and shares[0].mean() > 0.8


def test_poses_are_normalized(problem):
    poses, kernel = float32(*problem[:2])
    parents = routing.InvertedAttentionRouting()(poses, kernel)
    parents = keras.ops.convert_to_numpy(parents).reshape(2, 3, -1)
    np.testing.assert_allclose(parents.mean(-1), 0.0, atol=1e-6)
    np.testing.assert_allclose(parents.std(-1), 1.0, rtol=1e-3)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_never_nan(dtype, scale, problem):
    route = built(problem, 3)

    def call(poses, kernel):
        return route(keras.ops.cast(poses, dtype), keras.ops.cast(kernel, dtype))

    poses = np.clip(scale * problem[0], -6e4, 6e4)
    arrays = float32(poses, 0.1 * problem[1])
    parents = call(*arrays)
    assert keras.backend.standardize_dtype(parents.dtype) == "float32"
    assert finite(parents, *gradients(call, *arrays))


def test_config_round_trip():
    config = routing.InvertedAttentionRouting(4, 1e-3, "while", True, 3).get_config()
    again = routing.InvertedAttentionRouting.from_config(config)
    assert again.get_config() == config
    assert (again.iterations, again.epsilon, again.loop) == (4, 1e-3, "while")
    assert (again.stop_gradient, again.block) == (True, 3)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("iterations", 0),
        ("epsilon", 0.0),
        ("epsilon", 1e-40),
        ("loop", "for"),
        ("stop_gradient", 1),
        ("block", 0),
    ],
)
def test_bad_arguments(argument, value):
    with pytest.raises(ValueError, match=f"`{argument}`"):
        routing.InvertedAttentionRouting(**{argument: value})
