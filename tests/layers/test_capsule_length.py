import keras
import numpy as np
import pytest
from helpers import POLICIES, close, finite, gradients

from keras_capsules import layers
from keras_capsules._backend import float64
from keras_capsules.ops import squash


def test_length_of_the_last_axis():
    poses = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype("float32")
    layer = layers.CapsuleLength()
    close(layer(poses), np.linalg.norm(poses, axis=-1))
    assert layer.compute_output_shape(poses.shape) == (2, 3, 4)


def test_an_explicit_dtype_holds():
    outputs = layers.CapsuleLength(dtype="bfloat16")(np.ones((2, 3, 4), "float32"))
    assert keras.backend.standardize_dtype(outputs.dtype) == "bfloat16"


def test_bad_input_shape():
    with pytest.raises(ValueError, match="`inputs` must have shape"):
        layers.CapsuleLength()(np.ones((3, 4), "float32"))


@pytest.mark.parametrize("policy", POLICIES)
def test_lengths_are_float32_under_every_policy(policy):
    keras.config.set_dtype_policy(policy)
    layer = layers.CapsuleLength()
    lengths = layer(keras.ops.zeros((2, 3, 4), layer.compute_dtype))
    assert keras.backend.standardize_dtype(lengths.dtype) == "float32"
    assert finite(lengths, *gradients(layer, np.zeros((2, 3, 4), "float32")))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_lengths_of_squashed_poses_are_probabilities(dtype):
    """At most 1, although rounded poses are longer; the gradient is that of lengths."""
    x = 300.0 * np.random.default_rng(0).normal(size=(1, 5000, 16))
    poses = keras.ops.cast(squash(keras.ops.convert_to_tensor(x, "float32")), dtype)
    exact = keras.ops.convert_to_numpy(keras.ops.cast(poses, "float32"))
    norms = np.linalg.norm(exact.astype("float64"), axis=-1)
    assert norms.max() > 1.0 or dtype == "float32"
    lengths = keras.ops.convert_to_numpy(layers.CapsuleLength()(poses))
    assert lengths.max() == pytest.approx(1.0, abs=1e-6) and lengths.max() <= 1.0
    np.testing.assert_allclose(lengths, np.minimum(norms, 1.0), rtol=0.0, atol=2e-7)
    (slope,) = gradients(
        lambda x: layers.CapsuleLength()(keras.ops.cast(x, dtype)), exact
    )
    atol = 0.0 if dtype == "float32" else 0.01
    np.testing.assert_allclose(slope, exact / norms[..., None], rtol=1e-5, atol=atol)


def test_lengths_in_float64():
    with float64():
        x = keras.ops.convert_to_tensor(1e6 * np.ones((1, 1, 4)), "float64")
        assert float(layers.CapsuleLength(dtype="float64")(squash(x))[0, 0]) == 1.0


def test_longer_poses_keep_their_length():
    lengths = np.array([[0.5, 1.0, 1.001, 1.01, 50.0]], "float32")
    close(layers.CapsuleLength()(lengths[..., None]), lengths, rtol=1e-6)
