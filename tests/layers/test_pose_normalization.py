import keras
import numpy as np
import pytest
from helpers import POLICIES, finite, gradients

from keras_capsules import layers


@pytest.mark.parametrize("scale", [0.5, 1.0, 1e6])
def test_elements_have_size_1(scale):
    poses = scale * np.random.default_rng(0).normal(size=(2, 3, 4, 5, 4, 4))
    poses[1] *= 10.0
    found = keras.ops.convert_to_numpy(layers.PoseNormalization()(poses))
    np.testing.assert_allclose((found**2).mean((1, 2, 3, 4, 5)), 1.0, rtol=0.02)
    np.testing.assert_allclose(
        found[0] / found[0, 0, 0, 0, 0, 0],
        poses[0] / poses[0, 0, 0, 0, 0, 0],
        rtol=1e-4,
    )


def test_activations_pass():
    poses, activations = np.ones((2, 3, 3, 1, 4, 4)), np.full((2, 3, 3, 1), 0.3)
    layer = layers.PoseNormalization()
    outputs = layer((poses, activations))
    np.testing.assert_allclose(outputs[1], activations, rtol=1e-6)
    shapes = (poses.shape, activations.shape)
    assert layer.compute_output_shape(shapes) == shapes


@pytest.mark.parametrize("epsilon", [0.0, -1.0, 1e-40, float("inf"), "small", None])
def test_bad_epsilon(epsilon):
    with pytest.raises(ValueError, match="epsilon"):
        layers.PoseNormalization(epsilon)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("value", [0.0, 1.0, 1e30, np.inf])
def test_never_nan(policy, value):
    layer = layers.PoseNormalization(dtype=policy)
    poses = np.full((2, 3, 8), value, "float32")
    call = lambda x: keras.ops.cast(layer(x), "float32")  # noqa: E731
    assert finite(call(poses))
    if np.isfinite(value):
        assert finite(*gradients(call, poses))
