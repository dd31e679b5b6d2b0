import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_capsules.datasets.pairs import load, load_both

NOISE = np.random.default_rng(0).integers(0, 255, (60, 48, 48, 2), "uint8")
LABELS = np.arange(60) % 5
ELEVATIONS, AZIMUTHS, INSTANCES = (np.arange(60) % count for count in (9, 18, 5))


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
                "label_category": LABELS,
                "label_elevation": ELEVATIONS,
                "label_azimuth": AZIMUTHS,
                "instance": INSTANCES + 5 * (split == "test"),
            }
        )


@pytest.mark.parametrize("channels", [1, 2])
def test_images_are_halved_and_labels_kept(channels):
    pairs = load(FakeBuilder(), "train", stereo=channels == 2)
    assert pairs.images.dtype == "uint8" and pairs.labels.dtype == "int32"
    np.testing.assert_array_equal(pairs.images, np.clip(NOISE[..., :channels], 1, 254))
    columns = (LABELS, 30 + 5 * ELEVATIONS, 20 * AZIMUTHS, INSTANCES)
    for column, expected in zip(pairs[1:], columns, strict=True):
        np.testing.assert_array_equal(column, expected)


def test_both_splits():
    train, test = load_both(FakeBuilder(), stereo=True)
    assert set(train.instances) == {0, 1, 2, 3, 4}
    assert set(test.instances) == {5, 6, 7, 8, 9}
    assert train.images.shape == test.images.shape == NOISE.shape
