import keras
import numpy as np
import pytest

from keras_capsules import layers, routing


def test_trace_is_that_of_the_routing():
    rng = np.random.default_rng(0)
    poses = rng.normal(size=(2, 5, 6, 3, 4, 4)).astype("float32")
    activations = rng.random((2, 5, 6, 3)).astype("float32")
    layer = layers.ConvCapsule(4, 3, routing=routing.EMRouting(2))
    _, active = layer((poses, activations))
    trace = layer.trace((poses, activations))
    assert tuple(trace["assignments"].shape) == (2, 2 * 3 * 4, 4, 27)
    last = keras.ops.convert_to_numpy(trace["activations"][-1])
    expected = keras.ops.convert_to_numpy(active).reshape(24, 4)
    np.testing.assert_allclose(last, expected, rtol=1e-5)


def test_the_default_kernel_makes_votes_of_variance_1():
    for pose in ((4, 4), (2, 9)):
        layer = layers.ConvCapsule(32, 3)
        layer.build(((None, 6, 6, 8, *pose), (None, 6, 6, 8)))
        poses = np.random.default_rng(0).normal(size=(8, 1, 1, 1, *pose))
        kernel = keras.ops.convert_to_numpy(layer.kernel)
        votes = np.einsum("nxyzpq,xycjqr->nxycjpr", poses, kernel[:1, :1])
        assert votes.var() == pytest.approx(1.0, rel=0.2)


def test_layers_take_tuples_through_sequential():
    model = keras.Sequential(
        [
            keras.Input((14, 13, 2)),
            keras.layers.Conv2D(4, 3, strides=2, activation="relu"),
            layers.PrimaryCapsule(2, (4, 4)),
            layers.PoseNormalization(),
            layers.ConvCapsule(3, (3, 2)),
            layers.PoseNormalization(),
            layers.EMRoutingCapsule(5),
        ]
    )
    poses, activations = model(np.random.rand(3, 14, 13, 2).astype("float32"))
    assert tuple(poses.shape) == (3, 5, 4, 4) and tuple(activations.shape) == (3, 5)


def test_em_routing_of_digit_capsules_and_back():
    """Vector capsules of one routing feed those of the other."""
    images = np.random.rand(2, 12, 12, 1).astype("float32")
    capsules = layers.PrimaryCapsule(3, 4, kernel_size=5, strides=2)(images)
    capsules = layers.ConvCapsule(4, 3, routing="em", pose_shape=6)(capsules)
    capsules = layers.ConvCapsule(4, 2, routing="dynamic")(capsules)
    poses, activations = layers.DigitCapsule(5, 7, routing="em")(capsules)
    assert tuple(poses.shape) == (2, 5, 7) and tuple(activations.shape) == (2, 5)
    poses = layers.DigitCapsule(5, 7)((poses, activations))
    assert tuple(poses.shape) == (2, 5, 7)
