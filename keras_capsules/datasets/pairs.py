"""What smallNORB and its twin share: stereo pairs made ready for a network."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_capsules.datasets.download import reading
from keras_capsules.datasets.placement import with_random_seeds
from keras_capsules.datasets.splits import Splits

_SIZE = 48
_CROP = 32
_CONTRAST = (0.5, 1.5)
_BRIGHTNESS = 0.5  # standard deviations of the image
_FIELDS = ("label_category", "label_elevation", "label_azimuth", "instance")


class Pairs(NamedTuple):
    """Images of one split and what they show, in memory.

    Attributes:
        images: `(pairs, 48, 48, channels)`, uint8.
        labels: the categories, `(pairs,)`.
        elevations: from 0 for 30 degrees to 8 for 70 degrees, `(pairs,)`.
        azimuths: from 0 for 0 degrees to 17 for 340 degrees, `(pairs,)`.
        instances: which toy of its category, from 0 to 9, `(pairs,)`.
    """

    images: np.ndarray
    labels: np.ndarray
    elevations: np.ndarray
    azimuths: np.ndarray
    instances: np.ndarray

    def take(self, chosen: np.ndarray | slice) -> "Pairs":
        return Pairs(*(column[chosen] for column in self))

    def without_last_tenth(self) -> tuple["Pairs", "Pairs"]:
        rest = len(self.labels) - len(self.labels) // 10
        return self.take(slice(rest)), self.take(slice(rest, None))


def load(builder: tfds.core.DatasetBuilder, split: str, stereo: bool) -> Pairs:
    """Reads a split, at half its height and width.

    Args:
        builder: a prepared data set with the features of TFDS's `smallnorb`.
        split: `"train"` or `"test"`.
        stereo: whether to read both images of a pair, as two channels, or the
            first alone.

    Returns:
        The pairs, in the order of TFDS: shuffled, and always the same.
    """
    names = ("image", "image2") if stereo else ("image",)
    decoded = tfds.decode.PartialDecoding(dict.fromkeys((*names, *_FIELDS), True))

    def halve(batch):
        images = tf.concat([batch[name] for name in names], axis=-1)
        images = tf.round(tf.image.resize(images, (_SIZE, _SIZE), "area"))
        labels = (tf.cast(batch[name], tf.int32) for name in _FIELDS)
        return tf.cast(images, tf.uint8), *labels

    with reading(builder):
        dataset = builder.as_dataset(split=split, decoders=decoded)
        batches = dataset.batch(256).map(halve).as_numpy_iterator()
        columns = zip(*batches, strict=True)
        return Pairs(*(np.concatenate(column) for column in columns))


def splits(
    builder: tfds.core.DatasetBuilder, stereo: bool, crops: int, seed: int
) -> Splits:
    """The pipeline of the paper over the two splits of a builder.

    Args:
        builder: as for `load`.
        stereo: as for `load`.
        crops: as for `for_testing`.
        seed: as for `for_training`.

    Returns:
        Splits of `(image, label)`; the last tenth of the training pairs is for
        validation.
    """
    train, validation = load(builder, "train", stereo).without_last_tenth()
    return Splits(
        for_training(train, seed),
        for_testing(validation),
        for_testing(load(builder, "test", stereo), crops),
    )


def for_training(pairs: Pairs, seed: int) -> tf.data.Dataset:
    """Random crops with random contrast and brightness, new in every epoch.

    Args:
        pairs: images and labels.
        seed: seed of the crops, with TensorFlow's global seed.

    Returns:
        Data set of `(image, label)`, an image `(32, 32, channels)`.
    """

    def distorted(example, random):
        image, label = example
        image = _standardized(image)
        shape = (_CROP, _CROP, image.shape[-1])
        image = tf.image.stateless_random_crop(image, shape, random)
        image = tf.image.stateless_random_contrast(image, *_CONTRAST, random + 1)
        image = tf.image.stateless_random_brightness(image, _BRIGHTNESS, random + 2)
        return image, label

    dataset = tf.data.Dataset.from_tensor_slices((pairs.images, pairs.labels))
    return with_random_seeds(dataset, seed).map(distorted, tf.data.AUTOTUNE)


def for_testing(pairs: Pairs, crops: int = 1) -> tf.data.Dataset:
    """The centre crop, or a grid of crops around it.

    Args:
        pairs: images and labels.
        crops: crops along each side of the grid.

    Returns:
        Data set of `(image, label)`, an image `(32, 32, channels)` or, with
        several crops, `(crops², 32, 32, channels)`.
    """
    offsets = np.arange(1, crops + 1) * (_SIZE - _CROP) // (crops + 1)

    def cropped(image, label):
        image = _standardized(image)
        images = [
            image[top : top + _CROP, left : left + _CROP]
            for top in offsets
            for left in offsets
        ]
        return tf.stack(images) if crops > 1 else images[0], label

    dataset = tf.data.Dataset.from_tensor_slices((pairs.images, pairs.labels))
    return dataset.map(cropped, tf.data.AUTOTUNE)


def central_crop(images: tf.Tensor) -> tf.Tensor:
    """Makes whole pictures of toys what a network is tested with.

    It is what a network that was trained on `toys` or `smallnorb` needs before it
    where somebody has whole pictures: pass it to `export.export_saved_model` as
    `preprocess`, with `pixels_shape=(48, 48, 1)`.

    Args:
        images: `(batch, 48, 48, channels)` with values from 0 to 255.

    Returns:
        Standardized images `(batch, 32, 32, channels)`.

    Example:

    >>> import tensorflow as tf
    >>> from keras_capsules import datasets
    >>> datasets.central_crop(tf.zeros((2, 48, 48, 1))).shape
    TensorShape([2, 32, 32, 1])
    """
    margin = (_SIZE - _CROP) // 2
    return _standardized(images)[:, margin:-margin, margin:-margin]


def check_crops(crops: int) -> None:
    """Raises a ValueError unless `crops` is a size of a grid of crops."""
    if not (isinstance(crops, int) and 1 <= crops < _SIZE - _CROP):
        raise ValueError(
            f"crops must be an integer from 1 to {_SIZE - _CROP - 1}. "
            f"Received: crops={crops!r}"
        )


def _standardized(image):
    """Zero mean and unit variance, each image of a pair on its own."""
    image = tf.cast(image, tf.float32)
    mean, variance = tf.nn.moments(image, (-3, -2), keepdims=True)
    # An image of one grey has no variance; the images are of whole grey levels.
    return (image - mean) / tf.sqrt(tf.maximum(variance, 1.0))
