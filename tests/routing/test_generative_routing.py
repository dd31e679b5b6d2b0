import keras
import numpy as np
import pytest
import reference
from helpers import check_gradients, close, finite, float32, gradients

from keras_capsules import layers, routing
from keras_capsules.ops import ReceptiveFields

LOOPS = ("while", "unroll")
# Poses (batch, children, P, Q) and kernel (children, parents, Q, R).
SHAPES = {
    "vectors": ((2, 7, 1, 4), (7, 3, 4, 5)),
    "matrices": ((2, 6, 4, 4), (6, 3, 4, 3)),
}
LEARNED = ("vote_bias", "beta_use", "beta_ignore")


@pytest.fixture(params=SHAPES)
def problem(request):
    """Poses, kernel, activations, vote biases, benefits and costs."""
    rng = np.random.default_rng(0)
    poses, kernel = SHAPES[request.param]
    return (
        rng.normal(size=poses),
        rng.normal(size=kernel),
        rng.uniform(0.1, 0.9, size=poses[:2]),
        rng.normal(size=(*kernel[:2], poses[2], kernel[3])),
        rng.normal(size=kernel[:2]),
        rng.normal(size=kernel[:2]),
    )


def built(problem, **kwargs):
    route = routing.GenerativeRouting(**kwargs)
    route.build(problem[0].shape, problem[1].shape)
    for name, value in zip(LEARNED, problem[3:], strict=True):
        getattr(route, name).assign(value.astype("float32"))
    return route


@pytest.mark.parametrize("iterations", [1, 2, 3, 5])
@pytest.mark.parametrize("loop", LOOPS)
def test_values(loop, iterations, problem):
    route = built(problem, iterations=iterations, min_variance=0.1, loop=loop)
    expected = reference.generative_routing(*problem, iterations, 0.1)
    poses, activations = route(*float32(*problem[:3]))
    assert tuple(poses.shape) == (2, 3, problem[0].shape[2], problem[1].shape[3])
    close(keras.ops.reshape(poses, expected[0].shape), expected[0])
    close(activations, expected[1])
    weights = expected[2] * problem[2][:, :, None]
    trace = route.trace(*float32(*problem[:3]))
    close(trace["weights"][-1], np.swapaxes(weights, 1, 2), rtol=1e-3)
    close(trace["parents"][-1], poses)
    close(trace["activations"][-1], activations)


def test_distances_are_those_of_votes_with_their_biases(problem):
    trace = built(problem).trace(*float32(*problem[:3]))
    votes = np.einsum("nipq,ijqr->njipr", *problem[:2])
    votes = votes + np.swapaxes(problem[3], 0, 1)
    away = votes - keras.ops.convert_to_numpy(trace["parents"][-1])[:, :, None]
    close(trace["distances"][-1], np.sqrt(np.sum(away**2, (-2, -1))))


@pytest.mark.parametrize("loop", LOOPS)
def test_gradient_matches_finite_differences(loop, problem):
    route = built(problem, min_variance=0.5, loop=loop)
    rng = np.random.default_rng(2)
    of_poses = rng.normal(size=(2, 3, problem[0].shape[2] * problem[1].shape[3]))
    of_activations = rng.normal(size=(2, 3))

    def found(poses, kernel, activations, *learned):
        variables = [getattr(route, name) for name in LEARNED]
        with keras.StatelessScope(list(zip(variables, learned, strict=True))):
            poses, activations = route(poses, kernel, activations)
        poses = keras.ops.reshape(poses, of_poses.shape)
        return keras.ops.sum(
            poses * keras.ops.convert_to_tensor(of_poses, "float32")
        ) + keras.ops.sum(
            activations * keras.ops.convert_to_tensor(of_activations, "float32")
        )

    def expected(*arrays):
        parents, activations, _ = reference.generative_routing(*arrays, 3, 0.5)
        return np.sum(parents * of_poses) + np.sum(activations * of_activations)

    check_gradients(found, expected, problem)


def test_a_parent_that_is_worth_nothing_is_half_active(problem):
    route = routing.GenerativeRouting()
    route.build(problem[0].shape, problem[1].shape)
    _, activations = route(*float32(*problem[:3]))
    close(activations, np.full((2, 3), 0.5))


def test_what_is_used_is_worth_something_and_what_is_ignored_costs():
    """All children vote alike for parent 0, and each otherwise for parent 1."""
    poses, active = np.ones((1, 6, 1, 1)), np.ones((1, 6))
    kernel = np.random.default_rng(0).normal(size=(6, 2, 1, 8))
    kernel[:, 0] = kernel[0, 0]
    ones = np.ones((6, 2))
    problem = poses, kernel, active, np.zeros((6, 2, 1, 8)), ones, ones
    _, activations = built(problem)(*float32(poses, kernel, active))
    first, second = keras.ops.convert_to_numpy(activations)[0]
    assert first > 0.99 and second < 0.01


def test_each_field_routes_on_its_own_with_the_same_biases(problem):
    fields = ReceptiveFields((2, 7), (1, 7), (1, 1), "valid", 1)
    if problem[0].shape[1] == 6:
        fields = ReceptiveFields((2, 4), (2, 3), (1, 1), "valid", 1)
    route = built(problem, block=1)
    arguments = float32(*problem[:3])
    together = route(*arguments, receptive_fields=fields)
    for x, y in zip(together, route(*arguments), strict=True):
        close(x, y)


@pytest.mark.parametrize("active", [0.0, 1e-7, 1.0, 7.0])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_never_nan(dtype, active, problem):
    route = built(problem)

    def call(poses, kernel, activations):
        arrays = (keras.ops.cast(x, dtype) for x in (poses, kernel, activations))
        poses, activations = route(*arrays)
        return keras.ops.sum(poses) + keras.ops.sum(activations)

    arrays = float32(*problem[:2], 0.0 * problem[2] + active)
    assert finite(call(*arrays), *gradients(call, *arrays))


def test_config_round_trip():
    route = routing.GenerativeRouting(2, 0.5, "while", True, 3, name="g")
    config = route.get_config()
    again = routing.GenerativeRouting.from_config(config)
    assert again.get_config() == config
    settings = again.iterations, again.min_variance, again.loop, again.stop_gradient
    assert (*settings, again.block) == (2, 0.5, "while", True, 3)


@pytest.mark.parametrize(
    ("argument", "value"),
    [("iterations", 0), ("min_variance", 0.0), ("loop", "for"), ("block", 0)],
)
def test_bad_arguments(argument, value):
    with pytest.raises(ValueError, match=f"`{argument}`"):
        routing.GenerativeRouting(**{argument: value})


def test_activations_are_needed(problem):
    with pytest.raises(ValueError, match="`activations` is missing"):
        built(problem)(*float32(*problem[:2]))


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_benefits_and_costs_cancel_in_half_precision_too(policy):
    """One parent ignores nothing, so that nothing costs it."""
    layer = layers.DigitCapsule(
        1, 4, routing="generative", share_kernel=True, dtype=policy
    )
    poses, active = np.ones((1, 1000, 4), "float32"), np.ones((1, 1000), "float32")
    layer.build(((None, None, 4), (None, None)))
    layer.routing.beta_ignore.assign([[1.003]])
    _, activations = layer((poses, active))
    close(activations, np.full((1, 1), 0.5), atol=0.01)
