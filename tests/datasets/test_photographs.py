import numpy as np
import pytest
import tensorflow as tf
from helpers import all_examples

from keras_capsules.datasets.photographs import (
    Photographs,
    central_crop,
    check_crops,
    for_testing,
    for_training,
    reduced,
    splits,
)

NOISE = np.random.default_rng(0).integers(0, 255, (60, 48, 48, 2), "uint8")
LABELS = np.arange(60, dtype="int32") % 5
PHOTOGRAPHS = Photographs(NOISE, LABELS, *[np.zeros(60, "int32")] * 3)


def standardized(images):
    images = images.astype("float32")
    mean = images.mean((1, 2), keepdims=True)
    return (images - mean) / images.std((1, 2), keepdims=True)


def test_testing_takes_the_centre_and_standardizes():
    images, labels = all_examples(for_testing(PHOTOGRAPHS))
    np.testing.assert_allclose(images, standardized(NOISE[:, 8:40, 8:40]), atol=1e-4)
    np.testing.assert_array_equal(labels, LABELS)
    np.testing.assert_allclose(central_crop(tf.constant(NOISE)), images, atol=1e-5)


def test_a_grid_of_test_crops_around_the_centre():
    images, _ = all_examples(for_testing(PHOTOGRAPHS, crops=3))
    assert images.shape == (60, 9, 32, 32, 2)
    centre, _ = all_examples(for_testing(PHOTOGRAPHS))
    np.testing.assert_array_equal(images[:, 4], centre)
    np.testing.assert_allclose(
        images[:, 5], standardized(NOISE[:, 8:40, 12:44]), atol=1e-4
    )


def test_training_crops_anywhere():
    images, _ = all_examples(for_training(PHOTOGRAPHS, seed=0))
    assert images.shape == (60, 32, 32, 2) and images.dtype == "float32"
    places = []
    for image, original in zip(images, NOISE, strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(original, (32, 32), (0, 1))
        windows = standardized(windows.reshape(-1, 2, 32, 32).transpose(0, 2, 3, 1))
        match = np.einsum("wijc,ijc->w", windows, image).argmax()
        np.testing.assert_allclose(image, windows[match], atol=1e-4)
        places.append(divmod(match, 17))
    assert np.min(places) == 0 and np.max(places) == 16


def test_images_of_one_grey_become_zero():
    grey = PHOTOGRAPHS._replace(images=np.full_like(NOISE, 7))
    assert not all_examples(for_testing(grey))[0].any()


def test_the_last_tenth_validates():
    parts = splits(PHOTOGRAPHS, PHOTOGRAPHS, crops=3, seed=0)
    assert [len(part) for part in parts] == [54, 6, 60]
    np.testing.assert_array_equal(all_examples(parts.validation)[1], LABELS[54:])
    assert parts.validation.element_spec[0].shape == (32, 32, 2)
    assert parts.test.element_spec[0].shape == (9, 32, 32, 2)


@pytest.mark.parametrize("size", [(16, 24), (96, 96), (20, 61)])
def test_images_of_any_size_are_reduced_by_area(size):
    height, width = size
    images = np.random.default_rng(0).integers(0, 256, (2, *size, 3), "uint8")
    # Each pixel as 48×48, so that every area has whole ones.
    parts = images.repeat(48, axis=1).repeat(48, axis=2)
    areas = parts.reshape(2, 48, height, 48, width, 3).mean((2, 4))
    found = reduced(tf.constant(images)).numpy()
    assert found.dtype == "uint8"
    assert np.abs(found - areas).max() <= 0.501


def test_only_training_images_change_with_the_epoch_and_the_seed():
    def epochs(seed):
        parts = splits(PHOTOGRAPHS, PHOTOGRAPHS, crops=1, seed=seed)
        return [[all_examples(part)[0] for part in parts] for _ in range(2)]

    first, second = epochs(1)
    again, other = epochs(1)[0], epochs(2)[0]
    for part in range(3):
        assert (first[part] != second[part]).any() == (part == 0)
        assert (first[part] != other[part]).any() == (part == 0)
        np.testing.assert_array_equal(first[part], again[part])


@pytest.mark.parametrize("crops", [0, 16, 2.0, None])
def test_crops_that_are_no_grid(crops):
    with pytest.raises(ValueError, match=r"crops must be an integer from 1 to 15"):
        check_crops(crops)
