import keras
import pytest
from helpers import once
from keras import ops

from keras_capsules import layers, routing, testing

VECTORS, GRID = (2, 6, 4), (2, 5, 4, 3, 4, 4)


@pytest.mark.parametrize("name", routing.names())
def test_all_routings_pass(name):
    testing.check_routing(name)


@once
@pytest.mark.parametrize(
    "route",
    [
        routing.DynamicRouting(stop_gradient=True),
        routing.EMRouting(competition="patch", stop_gradient=True),
        routing.EMRouting(cost="standardized", agreement="product"),
        routing.EMRouting(3, 0.01, 5e-4, cost="paper", agreement="product"),
    ],
    ids=["dynamic stopped", "em patch stopped", "em standardized", "em of the paper"],
)
def test_other_settings_pass(route):
    testing.check_routing(route)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (layers.DigitCapsule(3, 5), VECTORS),
        (layers.DigitCapsule(3, 5, routing="em"), VECTORS),
        (layers.ConvCapsule(3, strides=2, padding="same"), GRID),
        (layers.ConvCapsule(3, (4, 2), (2, 3), routing="dynamic"), GRID),
        (layers.EMRoutingCapsule(3), GRID),
    ],
)
def test_all_layers_pass(layer, shape):
    testing.check_layer(layer, shape)
    # What was checked were copies.
    assert not layer.built and not layer.routing.built


@keras.saving.register_keras_serializable(package="tests")
class Mean(routing.Routing):
    """Parents are the means of their votes; the start for what is wrong below."""

    length_is_activation = False

    def route(self, votes, inputs):
        weights = inputs.ones / ops.sum(inputs.ones, -1, keepdims=True)
        weights = weights * ops.ones_like(votes[..., 0])
        yield {"weights": weights, "parents": self.parents(votes, weights)}

    def parents(self, votes, weights):
        return ops.sum(weights[..., None] * votes, axis=2)


def test_a_routing_without_moments_passes():
    testing.check_routing(Mean())


class Random(Mean):
    def parents(self, votes, weights):
        return super().parents(votes, weights) + keras.random.normal(
            (), dtype=votes.dtype
        )


class Flat(Mean):
    def parents(self, votes, weights):
        return super().parents(votes, weights)[..., :-1]


class Unbounded(Mean):
    computes_activations = True

    def route(self, votes, inputs):
        for step in super().route(votes, inputs):
            yield {**step, "activations": 2.0 + 0.0 * step["parents"][..., 0]}


class Long(Mean):
    length_is_activation = True


class Infinite(Mean):
    def parents(self, votes, weights):
        return super().parents(votes, weights) / ops.sum(votes**2, (2, 3))[..., None]


@keras.saving.register_keras_serializable(package="tests")
class Steep(Mean):
    def parents(self, votes, weights):
        mean = super().parents(votes, weights)
        return mean / ops.sqrt(ops.sum(mean**2, -1, keepdims=True) + 1e-14)


class Unregistered(Mean):
    pass


class CountsMasked(Mean):
    def route(self, votes, inputs):
        weights = ops.ones_like(votes[..., 0]) / votes.shape[2]
        yield {"weights": weights, "parents": self.parents(votes, weights)}


class ForAFixedNumber(Mean):
    def build(self, poses_shape, kernel_shape):
        self.prior = self.add_weight(shape=(kernel_shape[0],))


@keras.saving.register_keras_serializable(package="tests")
class Unsaved(routing.SelfAttentionRouting):
    def save_own_variables(self, store):
        pass

    def load_own_variables(self, store):
        pass


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (Random, AssertionError, "two equal calls of Random"),
        (Flat, ValueError, "`route` of Flat must yield 'parents' of shape"),
        (Unbounded, AssertionError, "must lie from 0 to 1"),
        (Long, AssertionError, "are activations and must be at most 1"),
        (Infinite, AssertionError, "must be finite with poses of zero"),
        (Steep, AssertionError, "must be at most 3e\\+04 with poses of zero"),
        (CountsMasked, AssertionError, "with a masked child and without it"),
        (ForAFixedNumber, AssertionError, "must take shapes with None"),
        (Unregistered, AssertionError, "register_keras_serializable"),
        (Unsaved, AssertionError, "what it and its loaded copy return differ"),
    ],
)
def test_what_is_wrong_with_a_routing_is_said(wrong, error, message):
    with pytest.raises(error, match=message):
        testing.check_routing(wrong())


def test_a_gradient_that_is_wrong_is_found(monkeypatch):
    from keras_capsules.routing import _engine

    backward = _engine._backward

    def wrong(*args):
        to_matrices, *others = backward(*args)
        return 1.001 * to_matrices, *others

    monkeypatch.setattr(_engine, "_backward", wrong)
    message = "The gradients of `kernel` of DynamicRouting and plain automatic"
    with pytest.raises(AssertionError, match=message):
        testing.check_routing("dynamic")


@keras.saving.register_keras_serializable(package="tests")
class OtherShapes(layers.ConvCapsule):
    def routing_shapes(self, shape):
        poses, (children, *others) = super().routing_shapes(shape)
        return poses, (children + 1, *others)


@keras.saving.register_keras_serializable(package="tests")
class UnusedWeight(layers.ConvCapsule):
    def build(self, input_shape):
        super().build(input_shape)
        self.unused = self.add_weight(name="unused", shape=())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (OtherShapes, "routing_shapes says"),
        (UnusedWeight, "unused` of UnusedWeight is trained, but its gradient is zero"),
    ],
)
def test_what_is_wrong_with_a_layer_is_said(wrong, message):
    with pytest.raises(AssertionError, match=message):
        testing.check_layer(wrong(3))


def test_bad_arguments():
    with pytest.raises(ValueError, match="`routing` must be one of"):
        testing.check_routing("no-such-routing")
    with pytest.raises(ValueError, match="`layer` must derive from"):
        testing.check_layer(keras.layers.Dense(3))
    with pytest.raises(ValueError, match="Poses must have shape"):
        testing.check_layer(layers.ConvCapsule(3), (2, 3))
