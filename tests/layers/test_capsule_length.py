import keras
import numpy as np
import pytest
from helpers import POLICIES, close, finite, gradients

from keras_capsules import layers


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
