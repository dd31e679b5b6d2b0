import keras
import numpy as np
import pytest
import reference
from helpers import close, finite, float32, golden, gradients, once, slope
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_capsules import routing
from keras_capsules._backend import float64
from keras_capsules.ops import ReceptiveFields

PAPER = {
    "inverse_temperature": 0.01,
    "min_variance": 5e-4,
    "cost": "paper",
    "agreement": "product",
}
SOFT = {"min_variance": 1.0, "cost": "paper", "agreement": "mean"}
VARIANTS = {
    "default": {},
    "soft": SOFT,
    "paper": PAPER,
    "patch": {**PAPER, "competition": "patch"},
    "standardized": {"cost": "standardized", "agreement": "product"},
}


def built(routing_, case):
    routing_.build(case["poses"].shape, case["kernel"].shape)
    beta_u, beta_a = float32(case["beta_u"], case["beta_a"])
    routing_.beta_u.assign(beta_u)
    routing_.beta_a.assign(beta_a)
    return routing_


def from_golden(case):
    return {
        "inverse_temperature": float(case["inverse_temperature"]),
        "min_variance": float(case["min_variance"]),
        "agreement": "product",
    }


def arguments_of(case):
    return float32(case["poses"], case["kernel"], case["child_activations"])


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    poses, kernel = rng.normal(size=(4, 6, 4, 4)), 0.5 * rng.normal(size=(6, 3, 4, 4))
    return poses, kernel, rng.uniform(0.1, 0.9, size=(4, 6))


@pytest.mark.parametrize("iterations", [1, 2, 3, 5])
def test_golden(iterations):
    case = golden(f"em_routing_{iterations}")
    route = routing.EMRouting(iterations, cost="paper", **from_golden(case))
    route = built(route, case)
    poses, activations = route(*arguments_of(case))
    close(poses, case["parent_poses"], atol=1e-5)
    close(activations, case["parent_activations"])
    weights = route.trace(*arguments_of(case))["weights"][-1]
    expected = case["assignments"] * case["child_activations"][:, :, None]
    close(np.swapaxes(weights, 1, 2), expected, atol=1e-5)


def test_golden_of_the_standardized_cost():
    case = golden("article_em_routing_3")
    route = routing.EMRouting(3, cost="standardized", agreement="product")
    poses, activations = built(route, case)(*arguments_of(case))
    close(poses, case["parent_poses"], atol=1e-5)
    close(activations, case["parent_activations"])


def test_reference_matches_golden():
    case = golden("em_routing_3")
    names = ("poses", "kernel", "child_activations", "beta_u", "beta_a")
    found = reference.em_routing(*(case[n] for n in names), 3, **from_golden(case))
    expected = ("parent_poses", "parent_activations", "assignments")
    for array, name in zip(found, expected, strict=True):
        np.testing.assert_allclose(array, case[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("far", [0.0, 10.0, 100.0])
def test_votes_far_from_zero_are_as_exact_as_float32_has_them(far):
    """Variances do not drown in the squares of votes."""
    rng = np.random.default_rng(0)
    poses = far + 0.1 * rng.normal(size=(6, 40, 4, 4)).astype("float32")
    kernel = np.broadcast_to(np.eye(4, dtype="float32"), (40, 3, 4, 4))
    activations = rng.uniform(0.1, 0.9, size=(6, 40)).astype("float32")
    betas = {"beta_u": 0.1 * rng.normal(size=3), "beta_a": 0.1 * rng.normal(size=3)}
    route = routing.EMRouting(3, **PAPER)
    built(route, {"poses": poses, "kernel": kernel, **betas})
    exact = [x.astype("float64") for x in (poses, kernel, activations)]
    paper = {name: value for name, value in PAPER.items() if name != "cost"}
    *expected, _ = reference.em_routing(*exact, *betas.values(), 3, **paper)
    means, active = route(poses, kernel, activations)
    close(active, expected[1])
    # A vote of 100 is known to 4e-6.
    close(means, expected[0], rtol=0.0, atol=1e-6 * max(far, 1.0))


@pytest.mark.parametrize("relative_mass", [False, True])
@pytest.mark.parametrize("agreement", ["product", "mean"])
@pytest.mark.parametrize("overlap", [False, True])
def test_gradient_matches_finite_differences(
    agreement, overlap, relative_mass, problem
):
    """Of poses and activations, by all that enters, with and without competition."""
    rng = np.random.default_rng(1)
    # Two images of two fields, which have two of their six children in common.
    fields = ReceptiveFields(
        (2, 3 if overlap else 4), (2, 2), (1, 2 - overlap), "valid", 1
    )
    poses, kernel, activations = (problem[0][:, :4], problem[1][:4], problem[2][:, :4])
    child = fields.children + 100 * np.arange(2)[:, None, None]
    arrays = [poses, kernel, activations, rng.normal(size=3), rng.normal(size=3)]
    settings_ = {"min_variance": 0.1, "agreement": agreement}
    temperature = None if relative_mass else 0.5
    weights = [rng.normal(size=(4, 3, 4, 4)), rng.normal(size=(4, 3))]
    route = routing.EMRouting(
        3, temperature, cost="paper", **settings_, dtype="float64"
    )
    with float64():
        route.build(poses.shape, kernel.shape)

    def weighed(poses, kernel, activations, beta_u, beta_a):
        betas = [(route.beta_u, beta_u), (route.beta_a, beta_a)]
        with keras.StatelessScope(betas):
            parents, active = route(poses, kernel, activations, receptive_fields=fields)
        parts = (parents, active)
        return sum(
            keras.ops.sum(keras.ops.multiply(x, w))
            for x, w in zip(parts, weights, strict=True)
        )

    def expected(*arrays):
        *found, _ = reference.em_routing(
            *arrays,
            3,
            temperature or 7.0,
            **settings_,
            child=child.reshape(4, 4),
            relative_mass=relative_mass,
        )
        return sum(np.sum(x * w) for x, w in zip(found, weights, strict=True))

    directions = [rng.normal(size=array.shape) for array in arrays]
    # In float32 rounding alone changes some of these gradients by several per cent.
    with float64():
        found = gradients(weighed, *arrays)
        close(weighed(*arrays), expected(*arrays))
    actual = sum(np.sum(g * d) for g, d in zip(found, directions, strict=True))
    assert actual == pytest.approx(slope(expected, arrays, directions), rel=1e-5)


@pytest.mark.parametrize("iterations", [2, 3, 4, 6])
def test_temperature_without_one(iterations, problem):
    temperature = 7.0 if iterations < 4 else 1.0 / (1.0 - 0.95**iterations)
    route = routing.EMRouting(iterations, **SOFT)
    route.build(problem[0].shape, problem[1].shape)
    betas = route.beta_u, route.beta_a
    *expected, _ = reference.em_routing(
        *problem,
        *(keras.ops.convert_to_numpy(beta) for beta in betas),
        iterations,
        temperature,
        min_variance=1.0,
        agreement="mean",
        relative_mass=True,
    )
    poses, activations = route(*float32(*problem))
    close(activations, expected[1])
    close(poses, expected[0])


def with_averages(iterations, problem):
    """A routing with normalized costs that has learned something."""
    rng = np.random.default_rng(2)
    route = routing.EMRouting(iterations)
    route.build(problem[0].shape, problem[1].shape)
    norm = route.cost_norm
    route.beta_u.assign(0.1 * rng.normal(size=3))
    route.beta_a.assign(rng.normal(size=3))
    norm.gamma.assign(rng.uniform(0.5, 2.0, size=3))
    norm.moving_mean.assign(rng.normal(size=3))
    norm.moving_variance.assign(rng.uniform(0.5, 4.0, size=3))
    return route


def normalized(route, problem, iterations, **places):
    """What the formulas make of the children, with moving averages."""
    weights = route.beta_u, route.beta_a, route.cost_norm.gamma
    beta_u, beta_a, gamma = map(keras.ops.convert_to_numpy, weights)
    norm = route.cost_norm
    mean, variance = map(
        keras.ops.convert_to_numpy, (norm.moving_mean, norm.moving_variance)
    )
    return reference.em_routing(
        *problem,
        beta_u,
        beta_a,
        iterations,
        inverse_temperature=None,
        min_variance=1.0,
        agreement="product",
        relative_mass=True,
        **places,
        # What is normalized is −cost.
        normalization=(-mean, gamma / np.sqrt(variance + 1e-4)),
    )


@pytest.mark.parametrize("iterations", [1, 2, 3, 5])
def test_normalized_costs(iterations, problem):
    route = with_averages(iterations, problem)
    *expected, assignments = normalized(route, problem, iterations)
    poses, activations = route(*float32(*problem), training=False)
    close(poses, expected[0])
    close(activations, expected[1])
    weights = route.trace(*float32(*problem))["weights"][-1]
    close(weights, np.swapaxes(assignments * problem[2][:, :, None], 1, 2))


def test_normalized_costs_where_fields_overlap(problem):
    """Two images of two fields, which have two of their six children in common."""
    fields = ReceptiveFields((2, 3), (2, 2), (1, 1), "valid", 1)
    problem = problem[0][:, :4], problem[1][:4], problem[2][:, :4]
    child = (fields.children + 100 * np.arange(2)[:, None, None]).reshape(4, 4)
    route = with_averages(3, problem)
    *expected, _ = normalized(route, problem, 3, child=child)
    poses, activations = route(*float32(*problem), receptive_fields=fields)
    close(poses, expected[0])
    close(activations, expected[1])


def test_normalized_costs_of_masked_children(problem):
    poses, kernel, activations = problem
    mask = np.ones(activations.shape, bool)
    mask[0, :2] = mask[1:, 3:] = False
    route = with_averages(3, problem)
    there = poses, kernel, activations * mask
    *expected, _ = normalized(route, there, 3, padded=~mask)
    poses, activations = route(*float32(*problem), mask=mask)
    close(poses, expected[0])
    close(activations, expected[1])


def test_training_normalizes_by_the_batch(problem):
    """Poses are as in use; the last costs have the mean and deviation of the batch."""
    route = with_averages(3, problem)
    *expected, _ = normalized(route, problem, 3)
    norm = route.cost_norm
    before = keras.ops.convert_to_numpy(norm.moving_mean)
    variance, gamma, beta_a = (
        keras.ops.convert_to_numpy(x)
        for x in (norm.moving_variance, norm.gamma, route.beta_a)
    )
    logits = np.log(expected[1] / (1.0 - expected[1])) - beta_a
    costs = logits * np.sqrt(variance + 1e-4) / gamma + before  # below zero
    deviations = np.sqrt(costs.var(0) + 1e-4)
    active = reference.sigmoid(gamma * (costs - costs.mean(0)) / deviations + beta_a)
    poses, activations = route(*float32(*problem), training=True)
    close(poses, expected[0])
    close(activations, active, rtol=1e-3, atol=1e-4)
    close(norm.moving_mean, 0.9 * before + 0.1 * costs.mean(0), rtol=1e-3, atol=1e-4)


def test_use_moves_no_averages(problem):
    route = with_averages(3, problem)
    before = keras.ops.convert_to_numpy(route.cost_norm.moving_mean)
    route(*float32(*problem))
    close(route.cost_norm.moving_mean, before)


@pytest.mark.parametrize("training", [False, True])
def test_gradient_of_normalized_costs(training, problem):
    """Along a direction, of what is learned too, against differences of the routing."""
    rng = np.random.default_rng(1)
    route = with_averages(3, problem)
    route.cost_norm.momentum = 1.0  # so that the averages stay
    weights = [rng.normal(size=(4, 3, 4, 4)), rng.normal(size=(4, 3))]
    learned = [route.beta_u, route.beta_a, route.cost_norm.gamma]
    arrays = [*problem, *(keras.ops.convert_to_numpy(x) for x in learned)]
    directions = [rng.normal(size=array.shape) for array in arrays]

    def weighed(poses, kernel, activations, *values):
        with keras.StatelessScope(list(zip(learned, values, strict=True))):
            parts = route(poses, kernel, activations, training=training)
        return sum(
            keras.ops.sum(keras.ops.multiply(x, w.astype("float32")))
            for x, w in zip(parts, weights, strict=True)
        )

    def moved(step):
        return float(
            weighed(
                *float32(
                    *(a + step * d for a, d in zip(arrays, directions, strict=True))
                )
            )
        )

    found = gradients(weighed, *float32(*arrays))
    actual = sum(np.sum(g * d) for g, d in zip(found, directions, strict=True))
    assert actual == pytest.approx((moved(2e-3) - moved(-2e-3)) / 4e-3, rel=2e-2)


def test_children_choose_more_the_farther_votes_spread(problem):
    poses, *others = float32(*problem)
    shares = []
    for spread in (0.2, 1.0, 5.0):
        weights = routing.EMRouting().trace(spread * poses, *others)["weights"][-1]
        weights = keras.ops.convert_to_numpy(weights)
        weights = weights / weights.sum(1, keepdims=True)
        shares.append(np.square(weights).sum(1).mean())
    assert shares[0] < 0.4 and shares[0] < shares[1] < shares[2]


def test_stop_gradient_takes_assignments_as_constants(problem):
    poses, kernel, activations = problem
    rng = np.random.default_rng(1)
    weights, direction = rng.normal(size=(4, 3, 4, 4)), rng.normal(size=poses.shape)
    slopes = {}
    for stop in (False, True):
        route = routing.EMRouting(3, 0.5, cost="paper", stop_gradient=stop)
        (found,) = gradients(
            lambda x, route=route: route(x, *float32(kernel, activations))[0],
            *float32(poses),
            weights=weights,
        )
        slopes[stop] = np.sum(found * direction)
    shares = route.trace(*float32(*problem))["weights"][-1]
    shares = keras.ops.convert_to_numpy(shares)
    shares = shares / shares.sum(-1, keepdims=True)

    def means(poses):
        return weights * np.einsum("nji,nipq,ijqr->njpr", shares, poses, kernel)

    assert slopes[True] == pytest.approx(slope(means, [poses], [direction]), rel=1e-3)
    assert slopes[False] != pytest.approx(slopes[True], rel=1e-2)


def test_competition_is_the_same_where_fields_do_not_overlap(problem):
    apart = ReceptiveFields((2, 6), (2, 3), (1, 3), "valid", 1)
    found = [
        routing.EMRouting(3, competition=name).trace(
            *float32(*problem), receptive_fields=apart
        )
        for name in ("image", "patch")
    ]
    for name in ("weights", "means", "activations"):
        close(found[0][name], found[1][name])


def test_a_child_in_several_fields_is_given_away_once(problem):
    overlap = ReceptiveFields((2, 4), (2, 3), (1, 1), "valid", 1)
    *arrays, activations = float32(*problem)
    active = np.ones_like(activations)
    for name, of_shared in (("image", 1.0), ("patch", 2.0)):
        route = routing.EMRouting(3, competition=name)
        r = route.trace(*arrays, active, receptive_fields=overlap)["weights"]
        r = keras.ops.convert_to_numpy(r).reshape(3, 2, 2, 3, 6).sum(3)
        given = np.zeros((3, 2, 8))  # iterations, images, children
        for field, children in enumerate(overlap.children):
            given[:, :, children] += r[:, :, field]
        np.testing.assert_allclose(given[..., [0, 3, 4, 7]], 1.0, rtol=1e-4)
        np.testing.assert_allclose(given[..., [1, 2, 5, 6]], of_shared, rtol=1e-4)


def test_mass_is_relative_to_what_a_half_active_field_gives(problem):
    """Twice as many children of the same kind make the same activations."""
    poses, kernel, activations = float32(*problem)
    route = routing.EMRouting(2)
    once = route(poses, kernel, activations)
    twice = route(
        *(
            np.concatenate([x, x], i)
            for x, i in zip((poses, kernel, activations), (1, 0, 1), strict=True)
        )
    )
    for a, b in zip(once, twice, strict=True):
        close(a, b, rtol=1e-3, atol=1e-5)


def test_agreeing_votes_activate(problem):
    poses, kernel, activations = float32(*problem)
    same = (
        np.broadcast_to(poses[:, :1], poses.shape),
        np.broadcast_to(kernel[:1], kernel.shape),
    )
    route = routing.EMRouting()
    _, agreeing = route(*same, activations)
    _, disagreeing = route(2.0 * poses, kernel, activations)
    assert float(keras.ops.min(agreeing)) > float(keras.ops.max(disagreeing))


def test_activations_outside_0_and_1_count_as_the_nearest(problem):
    poses, kernel, activations = float32(*problem)
    wild = 4.0 * activations - 2.0
    for a, b in zip(
        routing.EMRouting()(poses, kernel, wild),
        routing.EMRouting()(poses, kernel, wild.clip(0.0, 1.0)),
        strict=True,
    ):
        close(a, b)


def test_inactive_children_change_nothing(problem):
    poses, kernel, activations = float32(*problem)
    activations[:, 3:] = 0.0
    other = poses.copy()
    other[:, 3:] = 7.0
    for a, b in zip(
        routing.EMRouting()(poses, kernel, activations),
        routing.EMRouting()(other, kernel, activations),
        strict=True,
    ):
        close(a, b)


def test_equal_costs_make_equal_activations():
    """Parents with the same votes differ by rounding only, which says nothing."""
    rng = np.random.default_rng(0)
    poses = rng.normal(size=(2, 40, 4, 4))
    kernel = np.broadcast_to(rng.normal(size=(40, 1, 4, 4)), (40, 5, 4, 4))
    route = routing.EMRouting(cost="standardized")
    _, active = route(*float32(poses, kernel, rng.random((2, 40))))
    close(active, np.full((2, 5), 0.5), atol=1e-3)


@pytest.mark.parametrize("variant", ["paper", pytest.param("standardized", marks=once)])
@pytest.mark.parametrize("kind", ["black", "alike", "inactive", "hardly active"])
def test_gradients_are_bounded(variant, kind):
    """Of outputs weighted by numbers of size 1, so that half precision holds them."""
    rng = np.random.default_rng(0)
    poses, kernel = rng.normal(size=(2, 12, 4, 4)), rng.normal(size=(12, 3, 4, 4))
    activations = rng.random((2, 12))
    if kind == "black":
        poses = 0.0 * poses
    elif kind == "alike":
        poses, kernel = poses[:, :1] + 1e-4 * poses, 0.0 * kernel + kernel[:1]
    else:
        activations = activations * (1e-7 if kind == "hardly active" else 0.0)
    weights = rng.normal(size=(2, 3, 17))
    route = routing.EMRouting(3, **VARIANTS[variant])

    def call(*arrays):
        means, active = route(*arrays)
        means = keras.ops.reshape(means, (2, 3, 16))
        return keras.ops.concatenate([means, active[..., None]], -1)

    found = gradients(call, *float32(poses, kernel, activations), weights=weights)
    assert max(np.abs(gradient).max() for gradient in found) < 2e4


# XLA compiles every operation for each shape anew.
JAX = keras.backend.backend() == "jax"


@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    parents=st.sampled_from([3] if JAX else [1, 3]),
    children=st.sampled_from([5] if JAX else [1, 5]),
    iterations=st.sampled_from([3] if JAX else [1, 2, 3, 4, 5]),
    scale=st.sampled_from([0.0, 1e-6, 1.0, 1e4, 1e8]),
    kind=st.sampled_from(["random", "identical", "zero kernel"]),
    activity=st.sampled_from(["random", "all 0", "all 1", "0 and 1"]),
    seed=st.integers(0, 9),
)
def test_never_nan(variant, parents, children, iterations, scale, kind, activity, seed):
    rng = np.random.default_rng(seed)
    poses = scale * rng.normal(size=(2, children, 4, 4))
    kernel = rng.normal(size=(children, parents, 4, 4))
    if kind == "identical":
        poses, kernel = poses * 0.0 + scale, kernel * 0.0 + 1.0
    elif kind == "zero kernel":
        kernel = kernel * 0.0
    activations = {
        "random": rng.random((2, children)),
        "all 0": np.zeros((2, children)),
        "all 1": np.ones((2, children)),
        "0 and 1": rng.integers(0, 2, (2, children)),
    }[activity]
    arrays = float32(poses, kernel, activations)
    route = routing.EMRouting(iterations, **VARIANTS[variant])
    assert finite(*route(*arrays))

    def total(*arrays):
        return sum(keras.ops.sum(x) for x in route(*arrays))

    assert finite(*gradients(total, *arrays))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_statistics_are_float32_in_half_precision(dtype, problem):
    arrays = [keras.ops.convert_to_tensor(x, dtype) for x in float32(*problem)]
    outputs = routing.EMRouting()(*arrays)
    for half, full in zip(
        outputs, routing.EMRouting()(*float32(*problem)), strict=True
    ):
        assert keras.backend.standardize_dtype(half.dtype) == "float32"
        close(half, full, rtol=0.1, atol=0.05)


def test_trace_ends_with_the_output(problem):
    arrays = float32(*problem)
    route = routing.EMRouting(3)
    poses, activations = route(*arrays)
    trace = route.trace(*arrays)
    shapes = {name: tuple(x.shape) for name, x in trace.items()}
    of_votes, of_poses, of_parents = (3, 4, 3, 6), (3, 4, 3, 16), (3, 4, 3)
    assert shapes == {
        "weights": of_votes,
        "scores": of_votes,
        "distances": of_votes,
        "parents": (3, 4, 3, 4, 4),
        "activations": of_parents,
        "means": of_poses,
        "variances": of_poses,
    }
    close(keras.ops.sum(trace["weights"], axis=2), np.stack([arrays[2]] * 3))
    close(trace["parents"][-1], poses)
    close(keras.ops.reshape(trace["means"][-1], poses.shape), poses)
    close(trace["activations"][-1], activations)


def test_config_round_trip():
    config = routing.EMRouting(
        2, 0.1, 0.5, "patch", "paper", "product", 0.8, "while", True, 3
    ).get_config()
    assert routing.EMRouting.from_config(config).get_config() == config


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("iterations", 0),
        ("inverse_temperature", -1.0),
        ("min_variance", 0.0),
        ("min_variance", 1e-40),
        ("min_variance", float("inf")),
        ("competition", "none"),
        ("cost", "articles"),
        ("agreement", "sum"),
        ("momentum", 1.0),
        ("stop_gradient", "no"),
    ],
)
def test_bad_arguments(argument, value):
    with pytest.raises(ValueError, match=argument):
        routing.EMRouting(**{argument: value})


@pytest.mark.parametrize("cost", ["normalized", "standardized"])
def test_only_the_cost_of_the_paper_takes_a_temperature(cost):
    with pytest.raises(ValueError, match="inverse_temperature"):
        routing.EMRouting(inverse_temperature=0.1, cost=cost)


def test_activations_are_needed(problem):
    with pytest.raises(ValueError, match="activations"):
        routing.EMRouting()(*float32(*problem[:2]))
