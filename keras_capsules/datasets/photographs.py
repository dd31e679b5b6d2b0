"""What smallNORB, its twin and ETH-80 share: photographs made ready for a network."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_capsules.datasets.placement import with_random_seeds
from keras_capsules.datasets.splits import Splits

_SIZE = 48
_CROP = 32


class Photographs(NamedTuple):
    """Images of objects and what they show, in memory.

    Attributes:
        images: `(photographs, 48, 48, channels)`, uint8.
        labels: the categories, `(photographs,)`.
        elevations: degrees above the horizon, from 0 to 90, `(photographs,)`.
        azimuths: degrees from 0 to 359, `(photographs,)`.
        instances: which object of its category, from 0 to 9, `(photographs,)`.
    """

    images: np.ndarray
    labels: np.ndarray
    elevations: np.ndarray
    azimuths: np.ndarray
    instances: np.ndarray

    def take(self, chosen: np.ndarray | slice) -> "Photographs":
        return Photographs(*(column[chosen] for column in self))

    def without_last_tenth(self) -> tuple["Photographs", "Photographs"]:
        rest = len(self.labels) - len(self.labels) // 10
        return self.take(slice(rest)), self.take(slice(rest, None))


def reduced(images: tf.Tensor) -> tf.Tensor:
    """Images of any size as `Photographs` has them: each pixel the mean of an area."""
    images = tf.image.resize(images, (_SIZE, _SIZE), "area")
    return tf.cast(tf.round(images), tf.uint8)


def splits(train: Photographs, test: Photographs, crops: int, seed: int) -> Splits:
    """The pipeline of the paper on EM routing.

    Args:
        train: what to train on, shuffled; the last tenth is for validation.
        test: what to test with.
        crops: as for `for_testing`.
        seed: as for `for_training`.

    Returns:
        Splits of `(image, label)`.
    """
    train, validation = train.without_last_tenth()
    return Splits(
        for_training(train, seed), for_testing(validation), for_testing(test, crops)
    )


def for_training(photographs: Photographs, seed: int) -> tf.data.Dataset:
    """Standardized random crops, new in every epoch.

    The authors' code changes brightness and contrast of the photograph first.
    Standardizing the crop undoes both.

    Args:
        photographs: images and labels.
        seed: seed of the crops, with TensorFlow's global seed.

    Returns:
        Data set of `(image, label)`, an image `(32, 32, channels)`.
    """

    def cropped(example, random):
        image, label = example
        shape = (_CROP, _CROP, image.shape[-1])
        image = tf.image.stateless_random_crop(image, shape, random)
        return _standardized(image), label

    examples = photographs.images, photographs.labels
    dataset = tf.data.Dataset.from_tensor_slices(examples)
    return with_random_seeds(dataset, seed).map(cropped, tf.data.AUTOTUNE)


def for_testing(photographs: Photographs, crops: int = 1) -> tf.data.Dataset:
    """The centre crop, or a grid of crops around it, each standardized.

    Args:
        photographs: images and labels.
        crops: crops along each side of the grid.

    Returns:
        Data set of `(image, label)`, an image `(32, 32, channels)` or, with
        several crops, `(crops², 32, 32, channels)`.
    """
    offsets = np.arange(1, crops + 1) * (_SIZE - _CROP) // (crops + 1)

    def cropped(image, label):
        images = [
            _standardized(image[top : top + _CROP, left : left + _CROP])
            for top in offsets
            for left in offsets
        ]
        return tf.stack(images) if crops > 1 else images[0], label

    examples = photographs.images, photographs.labels
    dataset = tf.data.Dataset.from_tensor_slices(examples)
    return dataset.map(cropped, tf.data.AUTOTUNE)


def central_crop(images: tf.Tensor) -> tf.Tensor:
    """Crops and standardizes whole pictures, as test images are.

    It is what a network that was trained on `toys`, `smallnorb` or `eth80` needs
    before it where somebody has whole pictures: pass it to
    `export.export_saved_model` as `preprocess`, with `pixels_shape=(48, 48, 1)`, or
    `(48, 48, 3)` for `eth80`.

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
    return _standardized(images[:, margin:-margin, margin:-margin])


def check_crops(crops: int) -> None:
    """Raises a ValueError unless `crops` is a size of a grid of crops."""
    if not (isinstance(crops, int) and 1 <= crops < _SIZE - _CROP):
        raise ValueError(
            f"crops must be an integer from 1 to {_SIZE - _CROP - 1}. "
            f"Received: crops={crops!r}"
        )


def _standardized(image):
    """Zero mean and unit variance, each channel on its own."""
    image = tf.cast(image, tf.float32)
    mean, variance = tf.nn.moments(image, (-3, -2), keepdims=True)
    # An image of one grey has no variance; the images are of whole grey levels.
    return (image - mean) / tf.sqrt(tf.maximum(variance, 1.0))
