import keras
import numpy as np
import pytest
from helpers import close, gradients, slope
from keras import ops

from keras_capsules import layers, routing, testing


@keras.saving.register_keras_serializable(package="tests")
class LearnsEverywhere(routing.MomentRouting):
    """It learns something in every hook, for each child and parent where it can."""

    needs_activations = True
    second_moments = True
    accumulates_scores = True
    length_is_activation = False

    def build(self, poses_shape, kernel_shape):
        children, parents, _, _ = kernel_shape
        shapes = {
            "prior": (parents, children or 1),
            "bias": (parents, children or 1),
            "gain": (poses_shape[2] * kernel_shape[3],),
            "slope": (parents, 1),
        }
        for name, shape in shapes.items():
            weight = self.add_weight(name=name, shape=shape, initializer="ones")
            setattr(self, name, weight)

    def initial_weights(self, inputs):
        poses = ops.tanh(ops.mean(inputs.poses, axis=(2, 3)))
        # The other way round Keras on TensorFlow loses the axis of one image.
        return ops.sigmoid(poses[:, None] + self.prior)

    def update_weights(self, scores, inputs):
        return ops.softmax(scores + self.bias, axis=1) * inputs.activations[:, None]

    def update_parents(self, moments, iteration, inputs):
        means = moments.sum / (moments.mass + 1.0)
        variances = moments.squares(about=means) / (moments.mass + 1.0)
        poses = means * self.gain * (1.0 + 0.1 * iteration)
        active = ops.sum(inputs.activations, axis=1) / ops.sum(inputs.ones, axis=(1, 2))
        poses = poses + active[:, None, None]
        return {"parents": poses, "variances": variances}

    def score_coefficients(self, parents):
        return routing.Polynomial(
            constant=self.slope[:, 0],
            linear=self.slope * parents["parents"],
            quadratic=-0.1 / (1.0 + parents["variances"]),
            about=parents["parents"],
        )


def test_what_is_learned_in_any_hook_has_its_gradient():
    testing.check_routing(LearnsEverywhere())
    layer = layers.DigitCapsule(3, 4, routing=LearnsEverywhere())
    layer.build((2, 5, 4))
    poses = np.random.default_rng(0).normal(size=(2, 5, 4)).astype("float32")
    learned = layer.routing.trainable_variables

    def parents(*values):
        with keras.StatelessScope(list(zip(learned, values, strict=True))):
            return layer(poses)

    found = gradients(parents, *map(keras.ops.convert_to_numpy, learned))
    for variable, gradient in zip(learned, found, strict=True):
        assert np.abs(gradient).max() > 0.0, variable.path


def test_a_routing_is_told_the_number_of_children():
    def children(layer, shape):
        layer.build((shape, shape[:4]))
        return layer.routing.prior.shape[1]

    grid = (2, 5, 4, 3, 4, 4)
    assert children(layers.ConvCapsule(2, routing=LearnsEverywhere()), grid) == 27
    assert children(layers.EMRoutingCapsule(2, routing=LearnsEverywhere()), grid) == 60


class Wrong(routing.DynamicRouting):
    """A hook of it returns something else."""

    def __init__(self, hook, change):
        super().__init__()
        right = getattr(self, hook)
        setattr(self, hook, lambda *args: change(right(*args)))


@pytest.mark.parametrize(
    ("hook", "change"),
    [
        ("initial_weights", lambda weights: weights[:, 0]),
        ("initial_weights", lambda weights: weights[0, 0]),
        ("update_weights", lambda weights: weights[:, :, :-1]),
        ("update_parents", lambda found: {"poses": found["parents"]}),
        ("update_parents", lambda found: {"parents": found["parents"][..., :-1]}),
        ("update_parents", lambda found: found["parents"]),
        ("score_coefficients", lambda p: p._replace(linear=p.linear[:, :-1])),
        ("score_coefficients", lambda p: p._replace(constant=p.linear)),
        ("score_coefficients", lambda p: p.linear),
    ],
)
def test_a_hook_that_returns_something_else_is_named(hook, change):
    layer = layers.DigitCapsule(3, 4, routing=Wrong(hook, change))
    with pytest.raises(ValueError, match=f"`{hook}` of Wrong must return"):
        layer(np.zeros((2, 5, 4), "float32"))


def test_a_route_that_yields_nothing():
    class Empty(routing.Routing):
        def route(self, votes, inputs):
            yield from ()

    with pytest.raises(ValueError, match="`route` of Empty must yield"):
        layers.DigitCapsule(3, 4, routing=Empty())(np.zeros((2, 5, 4), "float32"))


def test_what_is_traced_has_to_be_there():
    class Traced(routing.DynamicRouting):
        traced = ("median",)

    with pytest.raises(ValueError, match=r"must return a dict with .*median"):
        layers.DigitCapsule(3, 4, routing=Traced())(np.zeros((2, 5, 4), "float32"))


@pytest.mark.parametrize("of", [lambda p: p[1], lambda p: -1.0, lambda p: -1])
def test_a_quadratic_term_needs_second_moments(of):
    layer = layers.DigitCapsule(
        3, 4, routing=Wrong("score_coefficients", lambda p: p._replace(quadratic=of(p)))
    )
    with pytest.raises(ValueError, match="`second_moments = True`"):
        layer(np.zeros((2, 5, 4), "float32"))


def test_coefficients_may_broadcast():
    class ByParent(routing.DynamicRouting):
        def score_coefficients(self, parents):
            scale = ops.ones((3, 1))
            return routing.Polynomial(ops.zeros((3,)), scale * parents["parents"])

    poses = np.random.default_rng(0).normal(size=(2, 5, 1, 4)).astype("float32")
    kernel = np.random.default_rng(1).normal(size=(5, 3, 4, 6)).astype("float32")
    close(ByParent()(poses, kernel), routing.DynamicRouting()(poses, kernel))


def test_a_weight_may_be_a_coefficient():
    @keras.saving.register_keras_serializable(package="tests")
    class Learns(routing.DynamicRouting):
        def build(self, poses_shape, kernel_shape):
            self.slope = self.add_weight(
                name="slope", shape=(kernel_shape[1], 1), initializer="ones"
            )

        def score_coefficients(self, parents):
            return routing.Polynomial(linear=self.slope)

    testing.check_routing(Learns())


@pytest.mark.parametrize("about", [1.0, ops.ones((3, 1)), ops.ones((1, 3, 6))])
def test_coefficients_about_a_point_may_broadcast(about):
    class About(routing.DynamicRouting):
        def __init__(self, about, linear):
            super().__init__(2)
            self.polynomial = about, linear

        def score_coefficients(self, parents):
            about, linear = self.polynomial
            return routing.Polynomial(linear=linear, about=about)

    poses = np.random.default_rng(0).normal(size=(2, 5, 1, 4)).astype("float32")
    kernel = np.random.default_rng(1).normal(size=(5, 3, 4, 6)).astype("float32")
    whole = ops.ones((2, 3, 6))
    linear = ops.reshape(ops.arange(3.0), (3, 1))
    close(
        About(about, linear)(poses, kernel), About(whole, linear * whole)(poses, kernel)
    )


def test_squares_without_second_moments():
    class Squares(routing.DynamicRouting):
        def update_parents(self, moments, iteration, inputs):
            return {"parents": moments.squares(about=0.0)}

    with pytest.raises(ValueError, match="`second_moments`"):
        layers.DigitCapsule(3, 4, routing=Squares())(np.zeros((2, 5, 4), "float32"))


def test_the_default_of_initial_weights_is_that_of_equal_scores():
    class Slow(routing.DynamicRouting):
        initial_weights = routing.MomentRouting.initial_weights

    rng = np.random.default_rng(0)
    poses = rng.normal(size=(2, 5, 1, 4)).astype("float32")
    kernel = rng.normal(size=(5, 3, 4, 6)).astype("float32")
    close(Slow()(poses, kernel), routing.DynamicRouting()(poses, kernel), atol=1e-6)


class Scaled(routing.DynamicRouting):
    """Its parents are scaled by something that is made otherwise by each subclass."""

    def update_parents(self, moments, iteration, inputs):
        return {"parents": self.scaled(moments.sum)}


class OwnLayer(Scaled):
    def __init__(self):
        super().__init__()
        self.parts = [{"dense": keras.layers.Dense(4)}]

    def build(self, poses_shape, kernel_shape):
        self.parts[0]["dense"].build((None, 3, 4))

    def scaled(self, x):
        return self.parts[0]["dense"](x)


class Unbuilt(OwnLayer):
    def build(self, poses_shape, kernel_shape):
        pass


class Counter(Scaled):
    def build(self, poses_shape, kernel_shape):
        self.gain = self.add_weight(shape=(4,), initializer="ones")
        self.counter = self.add_weight(
            shape=(),
            dtype="int32",
            initializer="ones",
            # Nothing keeps TensorFlow from watching integers.
            trainable=keras.backend.backend() == "tensorflow",
        )

    def scaled(self, x):
        return x * self.gain * ops.cast(self.counter, x.dtype)

    def finalize(self, parents, training=None):
        if training:
            self.counter.assign(self.counter + 1)
        return parents


class NormalizedInAHook(Scaled):
    def __init__(self):
        super().__init__()
        self.norm = keras.layers.BatchNormalization()

    def build(self, poses_shape, kernel_shape):
        self.norm.build((None, 3, 4))

    def scaled(self, x):
        return self.norm(x)


class Foreign(Scaled):
    def __init__(self):
        super().__init__()
        self.borrow = lambda: weight

    def scaled(self, x):
        return x * self.borrow()


weight = keras.Variable(2.0)


@pytest.mark.parametrize("make", [OwnLayer, Counter])
def test_what_a_hook_learns_has_its_gradient_outside_of_a_program(make):
    width = keras.initializers.RandomNormal(stddev=0.1)
    layer = layers.DigitCapsule(3, 4, routing=make(), kernel_initializer=width)
    layer.build((2, 5, 4))
    poses = np.random.default_rng(0).normal(size=(2, 5, 4)).astype("float32")
    learned = [v for v in layer.routing.trainable_variables if "float" in v.dtype]

    def parents(*values):
        with keras.StatelessScope(list(zip(learned, values, strict=True))):
            return layer(poses)

    arrays = [keras.ops.convert_to_numpy(v) for v in learned]
    weights = np.random.default_rng(1).normal(size=(2, 3, 4))
    found = gradients(parents, *arrays, weights=weights)
    rng = np.random.default_rng(2)
    directions = [rng.normal(size=x.shape).astype("float32") for x in arrays]
    wanted = slope(
        lambda *x: keras.ops.convert_to_numpy(parents(*x)).astype("float64") * weights,
        arrays,
        directions,
        step=1e-2,
    )
    pairs = zip(found, directions, strict=True)
    assert sum(np.sum(a * b) for a, b in pairs) == pytest.approx(wanted, rel=1e-2)


def test_a_weight_of_integers_that_changes_is_seen_in_a_training():
    inputs = keras.Input((5, 4))
    layer = layers.DigitCapsule(3, 4, routing=Counter(iterations=1))
    model = keras.Model(inputs, layer(inputs))
    model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=False)
    x, zeros = np.ones((2, 5, 4), "float32"), np.zeros((2, 3, 4), "float32")
    first, second = model.fit(x, zeros, epochs=2, verbose=0).history["loss"]
    assert second == pytest.approx(4.0 * first)


@pytest.mark.parametrize("make", [Unbuilt, Foreign])
def test_a_weight_that_the_routing_does_not_own_is_refused(make):
    layer = layers.DigitCapsule(3, 4, routing=make())
    with pytest.raises(ValueError, match="weight that the routing doesn't own"):
        layer(np.ones((2, 5, 4), "float32"))


def test_a_hook_that_changes_a_variable_is_refused():
    layer = layers.DigitCapsule(3, 4, routing=NormalizedInAHook())
    x = np.ones((2, 5, 4), "float32")
    layer(x)
    with pytest.raises(ValueError, match="belong in `finalize`"):
        layer(x, training=True)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="a variable of TensorFlow"
)
def test_a_variable_that_keras_does_not_know_is_refused():
    import tensorflow as tf

    class Raw(Scaled):
        def scaled(self, x):
            return x * raw

    raw, layer = tf.Variable(2.0), layers.DigitCapsule(3, 4, routing=Raw())
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(np.ones((2, 5, 4), "float32")))
    with pytest.raises(ValueError, match=r"`tf\.Variable` of its own"):
        tape.gradient(total, layer.trainable_variables)
