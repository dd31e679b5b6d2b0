import keras
import numpy as np
import pytest
import reference
from helpers import check_gradients, close, finite, float32, gradients

from keras_capsules import routing
from keras_capsules.ops import ReceptiveFields

LOOPS = ("while", "unroll")
# Poses (batch, children, P, Q) and kernel (children, parents, Q, R).
SHAPES = {
    "vectors": ((2, 7, 1, 4), (7, 3, 4, 5)),
    "matrices": ((2, 6, 4, 4), (6, 3, 4, 3)),
}


@pytest.fixture(params=SHAPES)
def problem(request):
    """Poses, kernel and prior (parents, children)."""
    rng = np.random.default_rng(0)
    poses, kernel = SHAPES[request.param]
    return (
        rng.normal(size=poses),
        0.5 * rng.normal(size=kernel),
        0.3 * rng.normal(size=(kernel[1], kernel[0])),
    )


def built(problem, **kwargs):
    route = routing.SelfAttentionRouting(**kwargs)
    route.build(problem[0].shape, problem[1].shape)
    route.prior.assign(problem[2].astype("float32"))
    return route


@pytest.mark.parametrize("loop", LOOPS)
def test_values(loop, problem):
    poses, kernel, prior = problem
    route = built(problem, loop=loop)
    expected, weights = reference.self_attention_routing(poses, kernel, prior.T)
    parents = route(*float32(poses, kernel))
    assert tuple(parents.shape) == (2, 3, poses.shape[2], kernel.shape[3])
    close(keras.ops.reshape(parents, expected.shape), expected)
    trace = route.trace(*float32(poses, kernel))
    close(trace["parents"][-1], parents)
    close(trace["weights"][-1], np.swapaxes(weights, 1, 2))
    close(trace["weights"][0], np.ones((2, *prior.shape)))


@pytest.mark.parametrize("loop", LOOPS)
def test_gradient_matches_finite_differences(loop, problem):
    route = built(problem, loop=loop)
    shape = (2, 3, problem[0].shape[2], problem[1].shape[3])
    weights = np.random.default_rng(2).normal(size=shape)

    def found(poses, kernel, prior):
        with keras.StatelessScope([(route.prior, prior)]):
            return route(poses, kernel)

    def expected(poses, kernel, prior):
        parents, _ = reference.self_attention_routing(poses, kernel, prior.T)
        return parents.reshape(shape)

    check_gradients(found, expected, problem, weights)


def test_stop_gradient_takes_the_softmax_as_a_constant(problem):
    poses, kernel, prior = problem
    _, weights = reference.self_attention_routing(poses, kernel, prior.T)
    shares = weights - prior.T
    route = built(problem, stop_gradient=True)

    def found(poses, kernel, prior):
        with keras.StatelessScope([(route.prior, prior)]):
            return route(poses, kernel)

    def expected(poses, kernel, prior):
        votes = reference.flat_votes(poses, kernel)
        total = np.einsum("nij,nijh->njh", shares + prior.T, votes)
        length = np.linalg.norm(total, axis=-1, keepdims=True)
        return (1 - np.exp(-length)) * total / length

    check_gradients(found, expected, problem)


def test_the_vote_that_agrees_with_the_others_wins():
    """All children vote alike for parent 0, and each otherwise for parent 1."""
    poses = np.ones((1, 6, 1, 1), "float32")
    kernel = np.random.default_rng(0).normal(size=(6, 2, 1, 8))
    kernel[:, 0] = kernel[0, 0]
    weights = routing.SelfAttentionRouting().trace(*float32(poses, kernel))["weights"]
    weights = keras.ops.convert_to_numpy(weights)[-1, 0]
    np.testing.assert_allclose(weights.sum(0), 1.0, rtol=1e-5)
    assert (weights[0] > weights[1]).all()


def test_the_prior_adds_to_what_a_parent_gets(problem):
    poses, kernel, prior = problem
    with_prior, without = (
        built((poses, kernel, p)).trace(*float32(poses, kernel))["weights"][-1]
        for p in (prior, 0.0 * prior)
    )
    close(with_prior - without, np.stack([prior] * 2), atol=1e-6)


def test_short_votes_keep_their_length():
    """Where the squash of dynamic routing has a length of |s|², this one has |s|."""
    poses = np.full((1, 1, 1, 1), 1e-2, "float32")
    kernel = np.array([0.6, 0.8], "float32").reshape(1, 1, 1, 2)
    found = routing.SelfAttentionRouting()(poses, kernel)
    length = np.linalg.norm(keras.ops.convert_to_numpy(found))
    assert length == pytest.approx(1.0 - np.exp(-1e-2), rel=1e-3)


def test_each_field_routes_on_its_own_with_one_prior(problem):
    fields = ReceptiveFields((2, 7), (1, 7), (1, 1), "valid", 1)
    poses, kernel = float32(*problem[:2])
    if poses.shape[1] == 6:
        fields = ReceptiveFields((2, 4), (2, 3), (1, 1), "valid", 1)
    route = built(problem, block=1)
    together = route(poses, kernel, receptive_fields=fields)
    alone = [route(poses[i : i + 1], kernel) for i in (0, 1)]
    close(together, keras.ops.concatenate(alone))


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_never_nan(dtype, scale, problem):
    route = built(problem)

    def call(poses, kernel):
        return route(keras.ops.cast(poses, dtype), keras.ops.cast(kernel, dtype))

    poses = np.clip(scale * problem[0], -6e4, 6e4)
    arrays = float32(poses, 0.1 * problem[1])
    parents = call(*arrays)
    assert keras.backend.standardize_dtype(parents.dtype) == "float32"
    assert finite(parents, *gradients(call, *arrays))


def test_config_round_trip():
    route = routing.SelfAttentionRouting("while", True, 3, name="attention")
    config = route.get_config()
    assert "iterations" not in config
    again = routing.SelfAttentionRouting.from_config(config)
    assert again.get_config() == config
    assert (again.loop, again.stop_gradient, again.block) == ("while", True, 3)


@pytest.mark.parametrize(
    ("argument", "value"), [("loop", "for"), ("stop_gradient", 1), ("block", 0)]
)
def test_bad_arguments(argument, value):
    with pytest.raises(ValueError, match=f"`{argument}`"):
        routing.SelfAttentionRouting(**{argument: value})


def test_it_has_no_iterations_to_choose():
    with pytest.raises((TypeError, ValueError), match="iterations"):
        routing.SelfAttentionRouting(iterations=3)
