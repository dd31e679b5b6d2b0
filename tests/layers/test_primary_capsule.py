import keras
import numpy as np
import pytest
from helpers import POLICIES, close, finite, gradients
from reference import squash

from keras_capsules import layers


def test_is_a_convolution_cut_into_squashed_vectors():
    layer = layers.PrimaryCapsule(3, 4, kernel_size=(3, 2), strides=(2, 1))
    images = np.random.default_rng(0).normal(size=(2, 9, 8, 5)).astype("float32")
    poses = layer(images)
    kernel, bias = (keras.ops.convert_to_numpy(w) for w in layer.weights)
    assert poses.shape == (2, 4, 7, 3, 4) and kernel.shape == (3, 2, 5, 12)
    patch = images[1, 4:7, 3:5]
    expected = squash((np.tensordot(patch, kernel, 3) + bias).reshape(3, 4))
    close(poses[1, 2, 3], expected, atol=1e-5)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("size", [(9, 9), (12, 9), (9, 20), (16, 16), (21, 17)])
def test_compute_output_shape_agrees(size, padding):
    layer = layers.PrimaryCapsule(2, 4, 5, (2, 3), padding)
    images = np.zeros((2, *size, 3), "float32")
    assert layer.compute_output_shape(images.shape) == tuple(layer(images).shape)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_never_nan(policy, scale):
    layer = layers.PrimaryCapsule(2, 4, 3, dtype=policy)
    images = np.full((2, 6, 6, 1), scale, "float32")
    layer.build(images.shape)
    call = lambda x: keras.ops.cast(layer(x), "float32")  # noqa: E731
    assert keras.backend.standardize_dtype(layer(images).dtype) == layer.compute_dtype
    assert finite(call(images), *gradients(call, images))


def test_unknown_image_size():
    inputs = keras.Input((None, None, 3))
    outputs = layers.PrimaryCapsule(2, 4, 3)(inputs)
    assert outputs.shape == (None, None, None, 2, 4)
    model = keras.Model(inputs, outputs)
    assert model.predict(np.zeros((1, 7, 5, 3)), verbose=0).shape == (1, 5, 3, 2, 4)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("capsules", {"capsules": 0}),
        ("pose_shape", {"pose_shape": 0}),
        ("kernel_size", {"kernel_size": (3, 3, 3)}),
        ("strides", {"strides": 0}),
        ("padding", {"padding": "full"}),
    ],
)
def test_bad_argument(name, settings):
    with pytest.raises(ValueError, match=f"`{name}`"):
        layers.PrimaryCapsule(**{"capsules": 2, "pose_shape": 4, **settings})


def test_kernel_larger_than_the_image():
    with pytest.raises(ValueError, match="`kernel_size` must not be larger"):
        layers.PrimaryCapsule(2, 4, (3, 9))(np.zeros((1, 28, 8, 1), "float32"))
    layers.PrimaryCapsule(2, 4, (3, 9), padding="same")(np.zeros((1, 28, 8, 1)))
    built = layers.PrimaryCapsule(2, 4, 5)
    built(np.zeros((1, 28, 28, 1), "float32"))
    with pytest.raises(ValueError, match="`kernel_size` must not be larger"):
        built(np.zeros((1, 4, 4, 1), "float32"))


@pytest.mark.parametrize("shape", [(None, 9, 9), (None, 9, 9, None)])
def test_bad_input_shape(shape):
    with pytest.raises(ValueError, match="`inputs` must have shape"):
        layers.PrimaryCapsule(2, 4).build(shape)


def test_matrix_capsules():
    images = np.random.default_rng(0).normal(size=(2, 9, 8, 3)).astype("float32")
    layer = layers.PrimaryCapsule(5, (2, 3), kernel_size=(3, 2), padding="same")
    poses, activations = layer(images)
    shapes = tuple(poses.shape), tuple(activations.shape)
    assert shapes == ((2, 9, 8, 5, 2, 3), (2, 9, 8, 5))
    assert shapes == layer.compute_output_shape(images.shape)
    features = keras.ops.reshape(layer.conv(images), (2, 9, 8, 5, 7))
    close(keras.ops.reshape(poses, (2, 9, 8, 5, 6)), features[..., :6])
    close(activations, keras.ops.sigmoid(features[..., 6]))


@pytest.mark.parametrize("pose_shape", [None, 0, (4,), (4, 0)])
def test_bad_pose_shape(pose_shape):
    with pytest.raises(ValueError, match="pose_shape"):
        layers.PrimaryCapsule(5, pose_shape)
