import keras
import numpy as np
import pytest
import reference
from helpers import POLICIES, close, finite, golden, gradients

from keras_capsules import layers, routing


@pytest.mark.parametrize("loop", ["while", "unroll"])
def test_golden(loop):
    case = golden("dynamic_routing_3")
    capsules, pose_shape = case["parents"].shape[1:]
    layer = layers.DigitCapsule(capsules, pose_shape, routing.DynamicRouting(3, loop))
    layer.build(case["poses"].shape)
    layer.set_weights([case["kernel"]])
    close(layer(case["poses"].astype("float32")), case["parents"])


def test_all_axes_between_batch_and_pose_are_children():
    layer = layers.DigitCapsule(3, 5)
    grid = np.random.default_rng(0).normal(size=(2, 4, 3, 2, 6)).astype("float32")
    parents = layer(grid)
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    assert kernel.shape == (24, 3, 6, 5)
    expected, _ = reference.dynamic_routing(grid.reshape(2, 24, 6), kernel, 3)
    close(parents, expected, atol=1e-5)


@pytest.mark.parametrize(
    "children", [(7, 4), (3, 3, 4), (2, 3, 2, 4), (5, 1, 2, 8), (1, 1)]
)
def test_compute_output_shape_agrees(children):
    layer = layers.DigitCapsule(10, 16)
    poses = np.zeros((2, *children), "float32")
    assert layer.compute_output_shape(poses.shape) == tuple(layer(poses).shape)


@pytest.mark.parametrize("route", ["dynamic", "self_attention"])
@pytest.mark.parametrize("widths", [(5,), (8, 5), (16, 8, 5), (5, 5, 5, 5)])
@pytest.mark.parametrize("children", [16, 300])
def test_untrained_layers_have_capsules_neither_short_nor_long(route, widths, children):
    poses = np.random.default_rng(0).normal(size=(3, children, 8))
    poses *= 0.3 / np.linalg.norm(poses, axis=-1, keepdims=True)
    poses = poses.astype("float32")
    stack = [layers.DigitCapsule(width, 8, routing=route) for width in widths]
    for layer in stack:
        poses = layer(poses)
        lengths = np.linalg.norm(keras.ops.convert_to_numpy(poses), axis=-1)
        assert 0.1 < lengths.mean() < 0.6


def test_an_untrained_layer_lets_a_gradient_through():
    layer = layers.DigitCapsule(10)
    poses = keras.random.normal((4, 1152, 8)) * 0.1
    layer.build(poses.shape)
    (gradient,) = gradients(layer, poses)
    assert np.linalg.norm(gradient) > 0.01


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_never_nan(policy, scale):
    layer = layers.DigitCapsule(3, 5, dtype=policy)
    poses = np.random.default_rng(0).normal(size=(2, 6, 4)).astype("float32") * scale
    layer.build(poses.shape)
    call = lambda x: keras.ops.cast(layer(x), "float32")  # noqa: E731
    assert keras.backend.standardize_dtype(layer(poses).dtype) == layer.compute_dtype
    assert finite(call(poses), *gradients(call, poses))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("capsules", {"capsules": 0}),
        ("pose_shape", {"pose_shape": -3}),
        ("routing", {"routing": "attention"}),
    ],
)
def test_bad_argument(name, settings):
    with pytest.raises(ValueError, match=f"`{name}`"):
        layers.DigitCapsule(**{"capsules": 2, **settings})


@pytest.mark.parametrize("shape", [(None, 8), (None, None, 8), (None, 6, None)])
def test_bad_input_shape(shape):
    with pytest.raises(ValueError, match="`inputs` must have shape"):
        layers.DigitCapsule(10).build(shape)


def test_another_input_than_it_was_built_for():
    layer = layers.DigitCapsule(10)
    layer.build((None, 6, 8))
    with pytest.raises(ValueError, match="incompatible with the layer"):
        layer(np.zeros((2, 3, 8), "float32"))
