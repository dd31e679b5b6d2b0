"""Preprocessing of photographs, for smallNORB, toys and ETH-80."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_capsules.datasets.placement import with_random_seeds
from keras_capsules.datasets.splits import Splits

_SIZE = 48
_CROP = 32


class Photographs(NamedTuple):
    """Photographs of objects in memory, with their labels and viewpoints.

    Attributes:
        images: `(photographs, 48, 48, channels)`, uint8.
        labels: the categories, `(photographs,)`.
        elevations: degrees above the horizon, from 0 to 90, `(photographs,)`.
        azimuths: degrees from 0 to 359, `(photographs,)`.
        instances: indices of the objects in their category, from 0 to 9,
            `(photographs,)`.
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
    """Downsamples images to 48×48, as uint8. Each pixel is the mean of an area."""
    images = tf.image.resize(images, (_SIZE, _SIZE), "area")
    return tf.cast(tf.round(images), tf.uint8)


def splits(train: Photographs, test: Photographs, crops: int, seed: int) -> Splits:
    """Returns the splits, preprocessed as in the paper on EM routing.

    Args:
        train: the training photographs, shuffled. The last tenth is for validation.
        test: the test photographs.
        crops: as for `for_testing`; only for the test photographs.
        seed: as for `for_training`.

    Returns:
        Splits of `(image, label)`.
    """
    train, validation = train.without_last_tenth()
    return Splits(
        for_training(train, seed), for_testing(validation), for_testing(test, crops)
    )


def for_training(photographs: Photographs, seed: int) -> tf.data.Dataset:
    """Returns standardized random crops, which are drawn anew in every epoch.

    The authors' code also changes the brightness and contrast of the photographs. This
    is omitted, because the standardization of the crops cancels it.

    Args:
        photographs: the training photographs.
        seed: seed of the crops, which also depend on TensorFlow's global seed.

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
    """Returns the standardized centre crops, or a grid of crops around the centre.

    Args:
        photographs: the photographs.
        crops: number of crops along each side of the grid.

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
    """Crops images to the centre and standardizes them, like test images.

    Networks that are trained on `toys`, `smallnorb` or `eth80` need this preprocessing.
    To include it in an exported network, pass the function as `preprocess` to
    `export.export_saved_model`, with `pixels_shape=(48, 48, 1)`, or `(48, 48, 3)` for
    `eth80`.

    Args:
        images: images `(batch, 48, 48, channels)` with values from 0 to 255.

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
    """Raises a ValueError if `crops` is not an integer from 1 to 15."""
    if not (isinstance(crops, int) and 1 <= crops < _SIZE - _CROP):
        raise ValueError(
            f"crops must be an integer from 1 to {_SIZE - _CROP - 1}. "
            f"Received: crops={crops!r}"
        )


def _standardized(image):
    """Scales each channel to zero mean and unit variance."""
    image = tf.cast(image, tf.float32)
    mean, variance = tf.nn.moments(image, (-3, -2), keepdims=True)
    # The variance of a uniform image is 0. For pixels from 0 to 255, 1 is small.
    return (image - mean) / tf.sqrt(tf.maximum(variance, 1.0))
