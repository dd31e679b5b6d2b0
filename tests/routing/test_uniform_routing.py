import numpy as np
import pytest
import reference
from helpers import check_gradients, close, float32

from keras_capsules import routing
from keras_capsules.ops import ReceptiveFields


@pytest.fixture
def problem():
    """Poses (batch, children, P, Q) and kernel (children, parents, Q, R)."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(2, 6, 4, 4)), rng.normal(size=(6, 3, 4, 3))


def test_values(problem):
    expected = reference.uniform_routing(*problem).reshape(2, 3, 4, 3)
    route = routing.UniformRouting()
    close(route(*float32(*problem)), expected)
    trace = route.trace(*float32(*problem))
    close(trace["weights"], np.full((1, 2, 3, 6), 1 / 3))
    close(trace["parents"][-1], expected)


def test_gradient_matches_finite_differences(problem):
    weights = np.random.default_rng(2).normal(size=(2, 3, 4, 3))

    def expected(poses, kernel):
        return reference.uniform_routing(poses, kernel).reshape(weights.shape)

    check_gradients(routing.UniformRouting(), expected, problem, weights)


def test_it_is_dynamic_routing_of_one_iteration(problem):
    dynamic = routing.DynamicRouting(1)
    close(routing.UniformRouting()(*float32(*problem)), dynamic(*float32(*problem)))
    shape = (1152, 10, 8, 16)
    assert routing.UniformRouting().kernel_stddev(shape) == dynamic.kernel_stddev(shape)


def test_each_field_on_its_own(problem):
    fields = ReceptiveFields((2, 4), (2, 3), (1, 1), "valid", 1)
    route = routing.UniformRouting(block=1)
    poses, kernel = float32(*problem)
    close(route(poses, kernel, receptive_fields=fields), route(poses, kernel))


def test_config_round_trip():
    config = routing.UniformRouting(3, name="none").get_config()
    assert not {"iterations", "loop", "stop_gradient"} & config.keys()
    again = routing.UniformRouting.from_config(config)
    assert again.get_config() == config and again.block == 3


def test_bad_arguments():
    with pytest.raises(ValueError, match="`block`"):
        routing.UniformRouting(block=0)
    with pytest.raises((TypeError, ValueError), match="iterations"):
        routing.UniformRouting(iterations=3)
