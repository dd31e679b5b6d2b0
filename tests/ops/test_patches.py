import keras
import numpy as np
import pytest
from helpers import close, gradients

from keras_capsules.ops import extract_patches


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(
    ("size", "strides"), [(3, 1), ((2, 3), (2, 1)), (2, None), ((3, 1), 2)]
)
def test_patches_are_those_of_keras(size, strides, padding):
    images = np.random.default_rng(0).normal(size=(2, 6, 7, 3)).astype("float32")
    expected = keras.ops.image.extract_patches(
        images, size, strides, padding=padding, data_format="channels_last"
    )
    found = extract_patches(images, size, strides, padding)
    assert tuple(found.shape) == tuple(expected.shape)
    close(found, expected)


def test_values_are_copied_and_infinity_stays_where_it_is():
    images = np.full((1, 4, 4, 2), 1.1, "float32")
    images[0, 0, 0, 1] = np.inf
    patches = keras.ops.convert_to_numpy(extract_patches(images, 2, 1))
    assert np.isinf(patches).sum() == 1 and not np.isnan(patches).any()
    np.testing.assert_array_equal(patches[0, 1:], np.float32(1.1))


def test_a_pixel_gets_the_gradients_of_all_patches_that_hold_it():
    (gradient,) = gradients(
        lambda x: extract_patches(x, 2, 1), np.zeros((1, 3, 3, 1), "float32")
    )
    close(gradient[0, :, :, 0], [[1, 2, 1], [2, 4, 2], [1, 2, 1]])


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("size", {"size": 0}),
        ("strides", {"strides": (1, 2, 3)}),
        ("strides", {"strides": 0}),
        ("padding", {"padding": "full"}),
        ("size", {"size": 5}),
        ("images", {"images": np.zeros((4, 4, 1))}),
    ],
)
def test_bad_arguments(name, arguments):
    with pytest.raises(ValueError, match=f"`{name}`"):
        extract_patches(**{"images": np.zeros((1, 4, 4, 1)), "size": 2, **arguments})
