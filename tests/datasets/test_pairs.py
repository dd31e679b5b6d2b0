import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from helpers import all_examples

from keras_capsules.datasets.pairs import (
    Pairs,
    central_crop,
    check_crops,
    for_testing,
    for_training,
    load,
    splits,
)

NOISE = np.random.default_rng(0).integers(0, 255, (60, 48, 48, 2), "uint8")
LABELS = np.arange(60, dtype="int32") % 5
PAIRS = Pairs(NOISE, LABELS, *(np.arange(60) % count for count in (9, 18, 10)))


class FakeBuilder:
    """60 pairs for either split, each of 48×48 squares of 2×2 pixels."""

    def as_dataset(self, split, decoders):
        assert split in ("train", "test")
        assert isinstance(decoders, tfds.decode.PartialDecoding)
        large = NOISE.repeat(2, axis=1).repeat(2, axis=2)
        # Their mean is what is to remain of four pixels.
        large = np.clip(large, 1, 254) + np.tile([[1], [-1]], (48, 96))[..., None]
        return tf.data.Dataset.from_tensor_slices(
            {
                "image": large[..., :1].astype("uint8"),
                "image2": large[..., 1:].astype("uint8"),
                "label_category": LABELS.astype("int64"),
                "label_elevation": PAIRS.elevations.astype("int64"),
                "label_azimuth": PAIRS.azimuths.astype("int64"),
                "instance": PAIRS.instances.astype("int64"),
            }
        )


def standardized(images):
    images = images.astype("float32")
    mean = images.mean((1, 2), keepdims=True)
    return (images - mean) / images.std((1, 2), keepdims=True)


@pytest.mark.parametrize("channels", [1, 2])
def test_images_are_halved_and_labels_kept(channels):
    pairs = load(FakeBuilder(), "train", stereo=channels == 2)
    assert pairs.images.dtype == "uint8" and pairs.labels.dtype == "int32"
    np.testing.assert_array_equal(pairs.images, np.clip(NOISE[..., :channels], 1, 254))
    for column, expected in zip(pairs[1:], PAIRS[1:], strict=True):
        np.testing.assert_array_equal(column, expected)


def test_testing_standardizes_and_takes_the_centre():
    images, labels = all_examples(for_testing(PAIRS))
    np.testing.assert_allclose(images, standardized(NOISE)[:, 8:40, 8:40], atol=1e-4)
    np.testing.assert_array_equal(labels, LABELS)
    np.testing.assert_allclose(central_crop(tf.constant(NOISE)), images, atol=1e-5)


def test_a_grid_of_test_crops_around_the_centre():
    images, _ = all_examples(for_testing(PAIRS, crops=3))
    assert images.shape == (60, 9, 32, 32, 2)
    np.testing.assert_array_equal(images[:, 4], all_examples(for_testing(PAIRS))[0])
    np.testing.assert_allclose(
        images[:, 5], standardized(NOISE)[:, 8:40, 12:44], atol=1e-4
    )


def test_training_crops_anywhere_and_changes_contrast_and_brightness():
    images, _ = all_examples(for_training(PAIRS, seed=0))
    assert images.shape == (60, 32, 32, 2) and images.dtype == "float32"
    places, contrasts, shifts = [], [], []
    for image, original in zip(
        images[..., 0], standardized(NOISE)[..., 0], strict=True
    ):
        windows = np.lib.stride_tricks.sliding_window_view(original, (32, 32))
        spread = windows - windows.mean((2, 3), keepdims=True)
        match = np.einsum("yxij,ij->yx", spread, image)
        place = np.unravel_index(match.argmax(), match.shape)
        contrast = image.std() / windows[place].std()
        np.testing.assert_allclose(
            image - image.mean(), contrast * spread[place], atol=1e-4
        )
        places.append(place)
        contrasts.append(contrast)
        shifts.append(image.mean() - windows[place].mean())
    assert np.min(places) == 0 and np.max(places) == 16
    assert 0.5 <= min(contrasts) < 0.6 and 1.4 < max(contrasts) <= 1.5
    assert -0.5 <= min(shifts) < -0.4 and 0.4 < max(shifts) <= 0.5


def test_images_of_one_grey_become_zero():
    grey = PAIRS._replace(images=np.full_like(NOISE, 7))
    assert not all_examples(for_testing(grey))[0].any()


def test_the_last_tenth_validates():
    parts = splits(FakeBuilder(), stereo=False, crops=3, seed=0)
    assert [len(part) for part in parts] == [54, 6, 60]
    np.testing.assert_array_equal(all_examples(parts.validation)[1], LABELS[54:])
    assert parts.validation.element_spec[0].shape == (32, 32, 1)
    assert parts.test.element_spec[0].shape == (9, 32, 32, 1)


def test_only_training_images_change_with_the_epoch_and_the_seed():
    def epochs(seed):
        parts = splits(FakeBuilder(), stereo=False, crops=1, seed=seed)
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
