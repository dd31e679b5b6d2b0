import keras
import numpy as np
import pytest
from helpers import POLICIES, close, finite, gradients, once
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_capsules import layers, routing

LAYERS = {
    "conv": lambda policy: layers.ConvCapsule(3, padding="same", dtype=policy),
    "em": lambda policy: layers.EMRoutingCapsule(3, dtype=policy),
}


def test_trace_is_that_of_the_routing():
    rng = np.random.default_rng(0)
    poses = rng.normal(size=(2, 5, 6, 3, 4, 4)).astype("float32")
    activations = rng.random((2, 5, 6, 3)).astype("float32")
    layer = layers.ConvCapsule(4, routing=routing.EMRouting(2))
    _, active = layer((poses, activations))
    trace = layer.trace((poses, activations))
    assert tuple(trace["weights"].shape) == (2, 2 * 3 * 4, 4, 27)
    last = keras.ops.convert_to_numpy(trace["activations"][-1])
    expected = keras.ops.convert_to_numpy(active).reshape(24, 4)
    np.testing.assert_allclose(last, expected, rtol=1e-5)


@pytest.mark.parametrize("name", routing.names())
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_trace_is_as_precise_as_a_call(name, dtype):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(2, 5, 4)), rng.random((2, 5))  # float64
    layer = layers.DigitCapsule(3, 6, routing=name, dtype=dtype)
    outputs = layer(inputs)
    last = layer.trace(inputs)["parents"][-1][:, :, 0]
    if not isinstance(
        # They normalize the poses after the last iteration.
        layer.routing,
        routing.VariationalBayesRouting | routing.SelfRouting,
    ):
        poses = outputs[0] if layer.routing.computes_activations else outputs
        close(last, poses, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("name", routing.names())
def test_a_grid_of_another_size(name):
    layer = layers.EMRoutingCapsule(3, routing=name)
    small, large = (
        (np.ones((1, n, n, 2, 4, 4), "float32"), np.ones((1, n, n, 2), "float32"))
        for n in (2, 3)
    )
    layer(small)
    if layer.routing.learns_for_each_child:
        with pytest.raises(ValueError, match=r"8 children, for each .*: 18 children"):
            layer(large)
        layer = layers.EMRoutingCapsule(3, routing=name, share_kernel=True)
        layer(small)
    layer(large)


def test_what_is_thawed_in_a_frozen_layer_stays_so():
    layer = layers.ConvCapsule(3, trainable=False)
    assert not layer.routing.cost_norm.trainable
    layer.routing.cost_norm.trainable = True
    again = layers.ConvCapsule.from_config(layer.get_config())
    assert again.routing.cost_norm.trainable and not again.routing.trainable


@pytest.mark.parametrize(
    ("settings", "variance"),
    [
        ({"cost": "paper"}, 1.0),
        ({}, 0.04),  # small beside the minimum variance
        ({"min_variance": 0.25}, 0.01),
    ],
)
def test_the_default_kernel_makes_votes_of_a_variance(settings, variance):
    for pose in ((4, 4), (2, 9)):
        layer = layers.ConvCapsule(32, routing=routing.EMRouting(**settings))
        layer.build(((None, 6, 6, 8, *pose), (None, 6, 6, 8)))
        poses = np.random.default_rng(0).normal(size=(8, 1, 1, 1, *pose))
        kernel = keras.ops.convert_to_numpy(layer.kernel)
        votes = np.einsum("nxyzpq,xycjqr->nxycjpr", poses, kernel[:1, :1])
        assert votes.var() == pytest.approx(variance, rel=0.2)


def test_layers_take_tuples_through_sequential():
    model = keras.Sequential(
        [
            keras.Input((14, 13, 2)),
            keras.layers.Conv2D(4, 3, strides=2, activation="relu"),
            layers.PrimaryCapsule(2, (4, 4)),
            layers.PoseNormalization(),
            layers.ConvCapsule(3, kernel_size=(3, 2)),
            layers.PoseNormalization(),
            layers.EMRoutingCapsule(5),
        ]
    )
    poses, activations = model(np.random.rand(3, 14, 13, 2).astype("float32"))
    assert tuple(poses.shape) == (3, 5, 4, 4) and tuple(activations.shape) == (3, 5)


def test_trace_builds_the_layer():
    poses, activations = np.ones((2, 5, 5, 3, 4, 4)), np.ones((2, 5, 5, 3))
    layer = layers.EMRoutingCapsule(4)
    inputs = [x.astype("float32") for x in (poses, activations)]
    assert tuple(layer.trace(inputs)["means"].shape) == (3, 2, 4, 16)


@pytest.mark.parametrize("name", ["conv", "em"])
@pytest.mark.parametrize(
    "activations", [(2, 5, 5, 4), (2, 5, 4, 3), (2, 75), (1, 5, 5, 3), (2, 5, 5, 3, 1)]
)
def test_activations_that_do_not_fit_to_the_poses(name, activations):
    with pytest.raises(ValueError, match="activations of shape"):
        LAYERS[name]("float32")((np.ones((2, 5, 5, 3, 4, 4)), np.ones(activations)))


def test_activations_that_are_missing():
    poses = np.ones((2, 5, 5, 3, 4, 4), "float32")
    with pytest.raises(ValueError, match="does not say how active"):
        layers.ConvCapsule(4)(poses)
    with pytest.raises(ValueError, match="activations of shape"):
        layers.ConvCapsule(4)((poses, poses[..., 0, 0], poses[..., 0, 0]))


def test_a_routing_that_learns_belongs_to_one_layer():
    route = routing.EMRouting()
    shapes = ((None, 5, 5, 3, 4, 4), (None, 5, 5, 3))
    layers.ConvCapsule(4, routing=route).build(shapes)
    with pytest.raises(ValueError, match="`routing`"):
        layers.ConvCapsule(4, routing=route).build(shapes)


# XLA compiles every operation for each grid anew.
JAX = keras.backend.backend() == "jax"
GRIDS = [(3, 2)] if JAX else [(1, 1), (3, 2)]


@pytest.mark.parametrize("policy", POLICIES[::2] if JAX else POLICIES)
@pytest.mark.parametrize("name", LAYERS)
@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    activity=st.sampled_from([0.0, 1e-6, 1.0, None]),
    grid=st.sampled_from(GRIDS),
    scale=st.sampled_from([0.0, 1.0]),
)
def test_never_nan(policy, name, activity, grid, scale):
    rng = np.random.default_rng(0)
    poses = scale * rng.normal(size=(2, *grid, 2, 4, 4)).astype("float32")
    activations = rng.random((2, *grid, 2)).astype("float32")
    if activity is not None:
        activations = 0.0 * activations + np.float32(activity)
    layer = LAYERS[name](policy)
    total = lambda *x: sum(  # noqa: E731
        keras.ops.sum(keras.ops.cast(y, "float32")) for y in layer(x)
    )
    assert finite(*layer((poses, activations)), *layer((1e4 * poses, activations)))
    half = [keras.ops.cast(x, layer.compute_dtype) for x in (poses, activations)]
    assert finite(*gradients(total, *half))


def test_em_routing_of_digit_capsules_and_back():
    """Vector capsules of one routing feed those of the other."""
    images = np.random.rand(2, 12, 12, 1).astype("float32")
    capsules = layers.PrimaryCapsule(3, 4, kernel_size=5, strides=2)(images)
    capsules = layers.ConvCapsule(4, routing="em", pose_shape=6)(capsules)
    capsules = layers.ConvCapsule(4, kernel_size=2, routing="dynamic")(capsules)
    poses, activations = layers.DigitCapsule(5, 7, routing="em")(capsules)
    assert tuple(poses.shape) == (2, 5, 7) and tuple(activations.shape) == (2, 5)
    poses = layers.DigitCapsule(5, 7)((poses, activations))
    assert tuple(poses.shape) == (2, 5, 7)


ON_A_GRID = {
    "conv": lambda **kwargs: layers.ConvCapsule(3, padding="same", **kwargs),
    "em": lambda **kwargs: layers.EMRoutingCapsule(3, **kwargs),
}


@once
@pytest.mark.parametrize("kind", ON_A_GRID)
@pytest.mark.parametrize("name", routing.names())
def test_masked_children_on_a_grid_count_for_nothing(kind, name):
    layer = ON_A_GRID[kind](routing=name)
    rng = np.random.default_rng(0)
    poses = rng.normal(size=(2, 4, 3, 2, 4, 4)).astype("float32")
    activations = rng.random((2, 4, 3, 2)).astype("float32")
    mask = np.ones((2, 4, 3, 2), bool)
    mask[0, 1:3], mask[1, 0, 2, 1] = False, False
    nothing = poses.copy(), activations.copy()
    nothing[0][~mask], nothing[1][~mask] = np.nan, np.nan
    expected = keras.tree.flatten(layer((poses, activations), mask=mask))
    found = keras.tree.flatten(layer(nothing, mask=mask))
    for x, y in zip(found, expected, strict=True):
        close(x, y)
    unmasked = keras.tree.flatten(layer((poses, activations)))
    assert np.abs(keras.ops.convert_to_numpy(unmasked[0] - expected[0])).max() > 1e-3


def test_a_mask_may_lack_the_last_axes_and_come_as_a_pair():
    layer = layers.EMRoutingCapsule(3)
    rng = np.random.default_rng(0)
    poses = rng.normal(size=(2, 4, 3, 2, 4, 4)).astype("float32")
    activations = rng.random((2, 4, 3, 2)).astype("float32")
    rows = np.array([[1, 1, 0, 1], [0, 1, 1, 1]], bool)
    whole = np.broadcast_to(rows[:, :, None, None], (2, 4, 3, 2))
    expected = layer((poses, activations), mask=whole)
    for mask in (rows, (rows, None), whole[..., 0]):
        for x, y in zip(layer((poses, activations), mask=mask), expected, strict=True):
            close(x, y)
    with pytest.raises(ValueError, match="`mask`"):
        layer((poses, activations), mask=rows[:, :3])


def test_keras_passes_masks_on_to_capsules_and_not_beyond():
    words = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(30, 4, mask_zero=True)(words)
    x = layers.PoseNormalization()(x)
    lengths = layers.CapsuleLength()(x)
    poses = layers.DigitCapsule(3, 5, routing="em", share_kernel=True)((x, lengths))[0]
    assert keras.src.backend.get_keras_mask(poses) is None
    model = keras.Model(words, poses)
    sentence = np.array([[4, 7, 2]])
    longer = np.array([[4, 7, 2, 0, 0, 0]])
    close(model.predict(longer, verbose=0), model.predict(sentence, verbose=0))


def test_a_trace_sees_the_masks_that_keras_passes_on():
    x = keras.layers.Embedding(30, 4, mask_zero=True)(np.array([[4, 7, 2, 0, 0]]))
    layer = layers.DigitCapsule(3, share_kernel=True)
    close(layer.trace(x)["parents"][-1][:, :, 0], layer(x))


def test_weights_of_a_routing_are_as_precise_as_the_kernel():
    keras.config.set_dtype_policy("bfloat16")
    layer = layers.DigitCapsule(3, routing="em", dtype="float32")
    layer.build((None, 5, 8))
    assert {weight.dtype for weight in layer.weights} == {"float32"}


@once
@pytest.mark.parametrize("name", routing.names())
def test_a_shared_kernel_is_the_same_for_all_children(name):
    poses = np.random.default_rng(0).normal(size=(2, 6, 4)).astype("float32")
    shared = layers.DigitCapsule(3, 5, routing=name, share_kernel=True)
    own = layers.DigitCapsule(3, 5, routing=name)
    expected = keras.tree.flatten(shared(poses))
    assert tuple(shared.kernel.shape) == (1, 3, 4, 5)
    own.build(poses.shape)
    own.kernel.assign(np.tile(shared.kernel, (6, 1, 1, 1)))
    for x, y in zip(keras.tree.flatten(own(poses)), expected, strict=True):
        close(x, y)
    # The order of the children is nothing to it, nor their number.
    for x, y in zip(keras.tree.flatten(shared(poses[:, ::-1])), expected, strict=True):
        close(x, y)
    shared(poses[:, :4])


@once
@pytest.mark.parametrize("kind", ON_A_GRID)
def test_a_kernel_is_shared_on_a_grid(kind):
    layer = ON_A_GRID[kind](share_kernel=True)
    poses = np.random.default_rng(0).normal(size=(2, 4, 3, 2, 4, 4)).astype("float32")
    activations = np.ones((2, 4, 3, 2), "float32")
    expected = layer((poses, activations))[0]
    assert layer.kernel.shape[-3:] == (3, 4, 4)
    assert np.prod(layer.kernel.shape[:-3]) == 1
    own = ON_A_GRID[kind]()
    own.build((poses.shape, activations.shape))
    own.kernel.assign(np.broadcast_to(layer.kernel, own.kernel.shape))
    close(own((poses, activations))[0], expected)
    again = type(layer).from_config(layer.get_config())
    assert again.share_kernel


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="others know every size"
)
@pytest.mark.parametrize("name", routing.names())
def test_a_graph_takes_any_number_of_children(name):
    import tensorflow as tf

    layer = layers.DigitCapsule(3, 5, routing=name, share_kernel=True)
    layer.build((None, None, 4))

    @tf.function(input_signature=[tf.TensorSpec((None, None, 4))])
    def step(poses):
        with tf.GradientTape() as tape:
            outputs = layer(poses)
            total = sum(map(tf.reduce_sum, tf.nest.flatten(outputs)))
        return outputs, tape.gradient(total, layer.kernel)

    for children in (6, 9):
        shape = 40, children, 4
        poses = np.random.default_rng(children).normal(size=shape).astype("float32")
        with tf.GradientTape() as tape:
            expected = tf.nest.flatten(layer(poses))
            total = sum(map(tf.reduce_sum, expected))
        outputs, gradient = step(poses)
        for x, y in zip(tf.nest.flatten(outputs), expected, strict=True):
            close(x, y)
        close(gradient, tape.gradient(total, layer.kernel), rtol=1e-3, atol=1e-4)
