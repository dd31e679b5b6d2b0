import keras
import numpy as np
import pytest
import reference
from helpers import check_gradients, close, finite, float32, gradients
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_capsules import routing
from keras_capsules.ops import ReceptiveFields

# Two images of two fields, which have two of their six children in common.
OVERLAP = ReceptiveFields((2, 3), (2, 2), (1, 1), "valid", types=1)
CHILD = (OVERLAP.children + 100 * np.arange(2)[:, None, None]).reshape(4, 4)
# Poses (rows, children, P, Q) and kernel (children, parents, Q, R).
SHAPES = {
    "vectors": ((4, 4, 1, 4), (4, 3, 4, 5)),
    "matrices": ((4, 4, 4, 4), (4, 3, 4, 3)),
}


@pytest.fixture(params=SHAPES)
def problem(request):
    """Poses, kernel and activations, and all that normalization learns."""
    rng = np.random.default_rng(0)
    poses, kernel = SHAPES[request.param]
    arrays = 0.7 * rng.normal(size=poses), 0.7 * rng.normal(size=kernel)
    return [*arrays, rng.uniform(0.1, 0.9, size=(4, 4)), *rng.normal(size=(4, 3))]


def learned(route):
    norms = route.pose_norm, route.activation_norm
    return [weight for norm in norms for weight in (norm.gamma, norm.beta)]


def built(problem, *args, **kwargs):
    """A routing with what is learned, and random moving averages."""
    route = routing.VariationalBayesRouting(*args, **kwargs)
    route.build(problem[0].shape, problem[1].shape)
    for variable, value in zip(learned(route), float32(*problem[3:]), strict=True):
        variable.assign(value)
    rng = np.random.default_rng(1)
    for norm, level in ((route.pose_norm, 0.0), (route.activation_norm, -3.0)):
        norm.moving_mean.assign(level + 0.1 * rng.normal(size=3))
        norm.moving_variance.assign(rng.uniform(0.5, 2.0, size=3))
    return route


def found(route, training, *arrays):
    """Poses and activations side by side, (rows, parents, P·R + 1)."""
    poses, kernel, activations, *values = arrays
    values = zip(learned(route), values, strict=True)
    with keras.StatelessScope(values):
        poses, activations = route(
            poses, kernel, activations, receptive_fields=OVERLAP, training=training
        )
    poses = keras.ops.reshape(poses, (*poses.shape[:2], -1))
    return keras.ops.concatenate([poses, activations[..., None]], axis=-1)


def expected(route, training, *arrays):
    """The same, of the reference."""
    *inputs, pose_gamma, pose_beta, gamma, beta = arrays
    child = CHILD if route.competition == "image" else None
    means, logits, _ = reference.variational_bayes_routing(
        *inputs, route.iterations, route.prior_weight, child
    )
    poses = normalized(means, route.pose_norm, training, pose_gamma, pose_beta)
    logits = normalized(logits[..., None], route.activation_norm, training, gamma, beta)
    return np.concatenate([poses, 1 / (1 + np.exp(-logits))], axis=-1)


def normalized(x, norm, training, gamma, beta):
    """Batch normalization of each parent type, of x (rows, parents, size)."""
    mean, variance = x.mean((0, 2)), x.var((0, 2))
    if not training:
        mean = keras.ops.convert_to_numpy(norm.moving_mean)
        variance = keras.ops.convert_to_numpy(norm.moving_variance)
    scale = gamma / np.sqrt(variance + norm.epsilon)
    return (x - mean[:, None]) * scale[:, None] + beta[:, None]


@pytest.mark.parametrize("competition", ["image", "patch"])
@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("training", [False, True])
def test_values(competition, iterations, training, problem):
    route = built(problem, iterations, competition)
    arrays = float32(*problem)
    close(
        found(route, training, *arrays),
        expected(route, training, *problem),
        atol=1e-5,
    )


@pytest.mark.parametrize("prior_weight", [0.1, 5.0])
def test_prior_weight(prior_weight, problem):
    route = built(problem, prior_weight=prior_weight)
    values = found(route, False, *float32(*problem))
    close(values, expected(route, False, *problem), atol=1e-5)


@pytest.mark.parametrize("competition", ["image", "patch"])
@pytest.mark.parametrize("training", [False, True])
def test_gradient_matches_finite_differences(competition, training, problem):
    """Of poses and activations, by all that enters, through all iterations."""
    route = built(problem, 3, competition)
    size = problem[0].shape[2] * problem[1].shape[3]
    check_gradients(
        lambda *arrays: found(route, training, *arrays),
        lambda *arrays: expected(route, training, *arrays),
        problem,
        weights=np.random.default_rng(2).normal(size=(4, 3, size + 1)),
    )


def test_the_loop_changes_nothing(problem):
    one, other = (built(problem, loop=loop) for loop in ("while", "unroll"))
    arrays = float32(*problem)
    close(found(one, False, *arrays), found(other, False, *arrays))
    slopes = (
        gradients(lambda *x, route=route: found(route, False, *x), *arrays)
        for route in (one, other)
    )
    for a, b in zip(*slopes, strict=True):
        close(a, b, rtol=1e-3, atol=1e-4)


def test_stop_gradient_takes_responsibilities_as_constants(problem):
    route = built(problem, stop_gradient=True)
    poses, kernel, activations, *_ = problem
    *_, shares = reference.variational_bayes_routing(
        poses, kernel, activations, 3, child=CHILD
    )

    def means(poses, kernel, activations):
        r = shares * activations[:, :, None]
        votes = reference.flat_votes(poses, kernel)
        means = np.einsum("nij,nijh->njh", r, votes) / (1 + r.sum(1)[..., None])
        return normalized(means, route.pose_norm, False, *problem[3:5])

    def poses_only(*arrays):
        return found(route, False, *arrays, *float32(*problem[3:]))[..., :-1]

    check_gradients(poses_only, means, problem[:3])


def test_a_child_in_several_fields_is_given_away_once(problem):
    poses, kernel, _ = float32(*problem[:3])
    for competition, of_shared in (("image", 1.0), ("patch", 2.0)):
        route = built(problem, 3, competition)
        active = np.ones((4, 4), "float32")
        weights = route.trace(poses, kernel, active, OVERLAP)["weights"]
        weights = keras.ops.convert_to_numpy(weights).sum(2).reshape(3, 2, 2, 4)
        given_away = np.zeros((3, 2, 6))  # iterations, images, children
        for field, children in enumerate(OVERLAP.children):
            given_away[:, :, children] += weights[:, :, field]
        np.testing.assert_allclose(given_away[..., [0, 2, 3, 5]], 1.0, rtol=1e-4)
        np.testing.assert_allclose(given_away[..., [1, 4]], of_shared, rtol=1e-4)


def test_trace_ends_with_the_output(problem):
    route, arrays = built(problem), float32(*problem[:3])
    poses, activations = route(*arrays, receptive_fields=OVERLAP)
    trace = route.trace(*arrays, receptive_fields=OVERLAP)
    close(trace["parents"][-1], poses, atol=1e-5)
    close(trace["activations"][-1], activations)
    *_, shares = reference.variational_bayes_routing(*problem[:3], 3, child=CHILD)
    weights = np.swapaxes(shares * problem[2][:, :, None], 1, 2)
    close(trace["weights"][-1], weights, atol=1e-5)


def test_training_moves_the_averages_and_use_does_not(problem):
    route, arrays = built(problem, momentum=0.75), float32(*problem[:3])
    norms = route.pose_norm, route.activation_norm

    def averages():
        moving = (x for norm in norms for x in (norm.moving_mean, norm.moving_variance))
        return [keras.ops.convert_to_numpy(x).copy() for x in moving]

    before = averages()
    used = route(*arrays, receptive_fields=OVERLAP, training=False)[0]
    for now, then in zip(averages(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    trained = route(*arrays, receptive_fields=OVERLAP, training=True)[0]
    means, logits, _ = reference.variational_bayes_routing(*problem[:3], 3, child=CHILD)
    of_batch = [means.mean((0, 2)), means.var((0, 2)), logits.mean(0), logits.var(0)]
    for now, then, new in zip(averages(), before, of_batch, strict=True):
        close(now, 0.75 * then + 0.25 * new, atol=1e-5)
    assert np.abs(keras.ops.convert_to_numpy(used - trained)).max() > 0.1


def test_agreeing_votes_activate():
    """The less the votes for a parent are scattered, the more active it is."""
    rng = np.random.default_rng(0)
    poses, scales = rng.normal(size=(12, 1, 1)), np.array([0.0, 1.0, 2.0, 4.0])
    poses = scales[:, None, None, None] * poses
    arrays = float32(poses, np.ones((12, 1, 1, 4)), np.ones((4, 12)))
    _, activations = routing.VariationalBayesRouting()(*arrays)
    activations = keras.ops.convert_to_numpy(activations)[:, 0]
    assert (np.diff(activations) < 0.0).all() and np.ptp(activations) > 0.1


def test_the_vote_that_agrees_with_the_others_wins():
    """All children vote alike for parent 0, and each otherwise for parent 1."""
    poses, active = np.ones((1, 12, 1, 1)), np.ones((1, 12))
    kernel = 2.0 * np.random.default_rng(0).normal(size=(12, 2, 1, 8))
    kernel[:, 0] = kernel[0, 0]
    route = routing.VariationalBayesRouting()
    weights = route.trace(*float32(poses, kernel, active))["weights"]
    assert (keras.ops.convert_to_numpy(weights)[-1, 0, 0] > 0.9).all()


def test_a_parent_that_gets_nothing_stays_at_its_prior(problem):
    route = routing.VariationalBayesRouting()
    poses, kernel, activations = float32(*problem[:3])
    parents, active = route(poses, kernel, 0.0 * activations)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(parents), 0.0)
    active = keras.ops.convert_to_numpy(active)
    assert active.std() < 1e-6 < active.min()


def test_activations_outside_0_and_1_count_as_the_nearest(problem):
    poses, kernel, activations = float32(*problem[:3])
    wild, route = 4.0 * activations - 2.0, built(problem)
    pairs = zip(
        route(poses, kernel, wild),
        route(poses, kernel, wild.clip(0.0, 1.0)),
        strict=True,
    )
    for a, b in pairs:
        close(a, b)


@pytest.mark.parametrize("competition", ["image", "patch"])
@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    iterations=st.sampled_from([1, 5]),
    scale=st.sampled_from([0.0, 1e-6, 1.0, 1e4, 1e8]),
    kind=st.sampled_from(["random", "identical", "zero kernel"]),
    activity=st.sampled_from(["random", "all 0", "all 1", "0 and 1"]),
    training=st.booleans(),
    seed=st.integers(0, 9),
)
def test_never_nan(competition, iterations, scale, kind, activity, training, seed):
    rng = np.random.default_rng(seed)
    poses = scale * rng.normal(size=(4, 4, 4, 4))
    kernel = rng.normal(size=(4, 3, 4, 4))
    if kind == "identical":
        poses, kernel = poses * 0.0 + scale, kernel * 0.0 + 1.0
    elif kind == "zero kernel":
        kernel = kernel * 0.0
    activations = {
        "random": rng.random((4, 4)),
        "all 0": np.zeros((4, 4)),
        "all 1": np.ones((4, 4)),
        "0 and 1": rng.integers(0, 2, (4, 4)),
    }[activity]
    arrays = float32(poses, kernel, activations)
    route = routing.VariationalBayesRouting(iterations, competition)
    route.build(poses.shape, kernel.shape)

    def total(*arrays):
        outputs = route(*arrays, receptive_fields=OVERLAP, training=training)
        return sum(keras.ops.sum(x) for x in outputs)

    assert finite(*route(*arrays, receptive_fields=OVERLAP, training=training))
    with keras.StatelessScope():  # the moving averages of a gradient are dropped
        assert finite(*gradients(total, *arrays))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_statistics_are_float32_in_half_precision(dtype, problem):
    route, arrays = built(problem), float32(*problem[:3])
    outputs = route(
        *(keras.ops.cast(x, dtype) for x in arrays), receptive_fields=OVERLAP
    )
    for half, full in zip(
        outputs, route(*arrays, receptive_fields=OVERLAP), strict=True
    ):
        assert keras.backend.standardize_dtype(half.dtype) == "float32"
        close(half, full, rtol=0.1, atol=0.05)


def test_config_round_trip():
    values = {
        "iterations": 2,
        "competition": "patch",
        "prior_weight": 0.5,
        "momentum": 0.99,
        "loop": "while",
        "stop_gradient": True,
        "block": 3,
    }
    config = routing.VariationalBayesRouting(*values.values()).get_config()
    again = routing.VariationalBayesRouting.from_config(config)
    assert again.get_config() == config
    assert {name: getattr(again, name) for name in values} == values
    assert again.pose_norm.momentum == again.activation_norm.momentum == 0.99


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("iterations", 0),
        ("competition", "none"),
        ("prior_weight", 0.0),
        ("prior_weight", 1e-40),
        ("momentum", -0.1),
        ("momentum", 1.0),
        ("loop", "for"),
        ("stop_gradient", 1),
        ("block", 0),
    ],
)
def test_bad_arguments(argument, value):
    with pytest.raises(ValueError, match=f"`{argument}`"):
        routing.VariationalBayesRouting(**{argument: value})


def test_activations_are_needed(problem):
    with pytest.raises(ValueError, match="`activations` is missing"):
        routing.VariationalBayesRouting()(*float32(*problem[:2]))
