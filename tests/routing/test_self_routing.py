import keras
import numpy as np
import pytest
import reference
from helpers import check_gradients, close, finite, float32, gradients

from keras_capsules import routing
from keras_capsules.ops import ReceptiveFields

# Poses (batch, children, P, Q) and kernel (children, parents, Q, R).
SHAPES = {
    "vectors": ((2, 7, 1, 4), (7, 3, 4, 5)),
    "matrices": ((2, 6, 4, 4), (6, 3, 4, 3)),
}


@pytest.fixture(params=SHAPES)
def problem(request):
    """Poses, kernel, activations, and the weights and biases of the classifiers."""
    rng = np.random.default_rng(0)
    poses, kernel = SHAPES[request.param]
    return (
        rng.normal(size=poses),
        rng.normal(size=kernel),
        rng.uniform(0.1, 0.9, size=poses[:2]),
        rng.normal(size=(*kernel[:2], poses[2] * poses[3])),
        rng.normal(size=kernel[:2]),
    )


def built(problem, **kwargs):
    route = routing.SelfRouting(**kwargs)
    route.build(problem[0].shape, problem[1].shape)
    route.weight.assign(problem[3].astype("float32"))
    route.bias.assign(problem[4].astype("float32"))
    return route


def without_norm(route, outputs):
    """Outputs before batch normalization, whose moving averages are 0 and 1."""
    poses, activations = outputs
    return poses * (1.0 + route.pose_norm.epsilon) ** 0.5, activations


def test_values(problem):
    route = built(problem)
    parents, activations, couplings = reference.self_routing(*problem)
    found = without_norm(route, route(*float32(*problem[:3])))
    close(found[0], parents.reshape(found[0].shape))
    close(found[1], activations)
    close(keras.ops.sum(found[1], -1), np.ones(2))
    weights = couplings * problem[2][:, :, None]
    trace = route.trace(*float32(*problem[:3]))
    close(trace["weights"][-1], np.swapaxes(weights, 1, 2))
    close(trace["activations"][-1], activations)


def test_gradient_matches_finite_differences(problem):
    route = built(problem)
    rng = np.random.default_rng(2)
    of_poses = rng.normal(size=(2, 3, problem[0].shape[2] * problem[1].shape[3]))
    of_activations = rng.normal(size=(2, 3))

    def found(poses, kernel, activations, weight, bias):
        pairs = [(route.weight, weight), (route.bias, bias)]
        with keras.StatelessScope(pairs):
            outputs = route(poses, kernel, activations)
        poses, activations = without_norm(route, outputs)
        poses = keras.ops.reshape(poses, of_poses.shape)
        return keras.ops.sum(
            poses * keras.ops.convert_to_tensor(of_poses, "float32")
        ) + keras.ops.sum(
            activations * keras.ops.convert_to_tensor(of_activations, "float32")
        )

    def expected(*arrays):
        parents, activations, _ = reference.self_routing(*arrays)
        return np.sum(parents * of_poses) + np.sum(activations * of_activations)

    check_gradients(found, expected, problem)


def test_classifiers_begin_without_a_preference(problem):
    route = routing.SelfRouting()
    route.build(problem[0].shape, problem[1].shape)
    weights = route.trace(*float32(*problem[:3]))["weights"][-1]
    close(weights, np.repeat(problem[2][:, None] / 3, 3, axis=1))


def test_poses_are_normalized_over_the_batch(problem):
    route = built(problem)
    poses, _ = route(*float32(*problem[:3]), training=True)
    poses = keras.ops.convert_to_numpy(poses)
    np.testing.assert_allclose(poses.mean((0, 2, 3)), 0.0, atol=1e-5)
    np.testing.assert_allclose(poses.std((0, 2, 3)), 1.0, rtol=0.05)


def test_each_field_routes_on_its_own_with_the_same_classifiers(problem):
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
    _, activations = route(*arrays)
    total = keras.ops.convert_to_numpy(keras.ops.sum(activations, -1))
    assert (total <= 1.0 + 1e-6).all()


def test_config_round_trip():
    config = routing.SelfRouting(0.7, 3, name="own").get_config()
    assert not {"iterations", "loop", "stop_gradient"} & config.keys()
    again = routing.SelfRouting.from_config(config)
    assert again.get_config() == config
    assert (again.momentum, again.pose_norm.momentum, again.block) == (0.7, 0.7, 3)


@pytest.mark.parametrize(("argument", "value"), [("momentum", 1.0), ("block", 0)])
def test_bad_arguments(argument, value):
    with pytest.raises(ValueError, match=f"`{argument}`"):
        routing.SelfRouting(**{argument: value})


def test_activations_are_needed(problem):
    with pytest.raises(ValueError, match="`activations` is missing"):
        built(problem)(*float32(*problem[:2]))
