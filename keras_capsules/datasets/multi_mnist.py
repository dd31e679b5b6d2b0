import os

import numpy as np
import tensorflow as tf

from keras_capsules.datasets.mnist import mnist
from keras_capsules.datasets.placement import place, with_random_seeds
from keras_capsules.datasets.splits import Splits

_SIZE = 36
_MAX_SHIFT = 4
_CLASSES = 10


def multi_mnist(data_dir: str | os.PathLike | None = None, seed: int = 0) -> Splits:
    """Two overlapping MNIST digits of different classes in one image.

    Each digit is shifted by up to 4 pixels from the centre of a 36×36 canvas,
    so that their 28×28 boxes overlap by 80 % on average; the image is the
    pixelwise maximum of the two. Each image of MNIST is the first digit of one
    pair. The partners and shifts of the training images are drawn anew in every
    epoch; those of the validation and test images are always the same, whatever
    the seed.

    Args:
        data_dir: as for `datasets.mnist`.
        seed: seed of the training pairs, with TensorFlow's global seed.

    Returns:
        Splits of `(image, label)`: a float32 image `(36, 36, 1)` with values
        from 0 to 1 and a float32 multi-hot label `(10,)`.

    Raises:
        FileNotFoundError: MNIST is missing and can't be downloaded.

    Example:

    ```python
    train, validation, test = datasets.multi_mnist(seed=1)
    ```

    Reference:
        Sabour, Frosst and Hinton, Dynamic routing between capsules (2017),
        section 6.1.
    """
    train, validation, test = mnist(data_dir)
    return Splits(
        _pairs(train, seed, vary=True),
        _pairs(validation, 1, vary=False),
        _pairs(test, 2, vary=False),
    )


def _pairs(digits, seed, vary):
    images, labels = digits.batch(len(digits)).get_single_element()
    # Sorted by class, the digits of other classes are two runs of indices.
    order = np.argsort(labels.numpy(), kind="stable")
    counts = np.bincount(labels.numpy(), minlength=_CLASSES)
    starts = np.cumsum(counts) - counts
    counts, starts = tf.constant(counts), tf.constant(starts)
    sorted_images, sorted_labels = tf.gather(images, order), tf.gather(labels, order)

    def overlay(digit, random):
        image, label = digit
        others = len(order) - counts[label]
        partner = tf.random.stateless_uniform((), random, 0, others, tf.int64)
        partner += tf.where(partner >= starts[label], counts[label], 0)
        first = place(image, _SIZE, _MAX_SHIFT, random + 1)
        second = place(sorted_images[partner], _SIZE, _MAX_SHIFT, random + 2)
        classes = [label, sorted_labels[partner]]
        return (
            tf.maximum(first, second),
            tf.reduce_sum(tf.one_hot(classes, _CLASSES), axis=0),
        )

    return with_random_seeds(digits, seed, vary).map(overlay, tf.data.AUTOTUNE)
