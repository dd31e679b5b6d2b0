import os

import numpy as np
import tensorflow as tf

from keras_capsules.datasets.mnist import mnist
from keras_capsules.datasets.placement import place, with_random_seeds
from keras_capsules.datasets.splits import Splits
from keras_capsules.validation import check_flag, check_natural_integer

_SIZE = 28
_CLASSES = 10


def multi_mnist(
    data_dir: str | os.PathLike | None = None,
    seed: int = 0,
    max_shift: int = 4,
    own_images: bool = False,
) -> Splits:
    """Loads MultiMNIST: images of two overlapping digits of different classes.

    By default each digit is shifted by up to 4 pixels from the centre of a 36×36
    canvas, so that the 28×28 boxes of the two digits overlap by 80 % on average. The
    image is the pixelwise maximum of the two. Each image of MNIST is the first digit of
    one pair. The second digits and the shifts of the training images are drawn anew in
    every epoch. Validation and test images are always the same.

    Args:
        data_dir: as for `datasets.mnist`.
        seed: seed of the training pairs, which also depend on TensorFlow's global seed.
        max_shift: the largest distance of a digit from the centre along each axis, in
            pixels. Each side of the canvas is extended by this number of pixels. The
            paper uses 4; the README of its authors' code says 6.
        own_images: whether a label also contains the image of each digit alone. In
            training, the decoder of a network with `objects=2` then reconstructs each
            digit from its own capsule, as in the paper.

    Returns:
        Splits of `(image, label)`: a float32 image `(36, 36, 1)` with values
        from 0 to 1 and a float32 multi-hot label `(10,)`. With `own_images` the label
        is a dict: `scores` is the multi-hot label, and `images` `(2, 36, 36, 1)` are
        the single digits, in the order of their classes. Other values of `max_shift`
        change the size of the images.

    Raises:
        FileNotFoundError: MNIST is missing and can't be downloaded.
        ValueError: `max_shift` is not an integer of at least 0, `own_images` is not a
            boolean, or the files of the data set are damaged.

    Example:

    ```python
    train, validation, test = datasets.multi_mnist(seed=1, own_images=True)
    ```

    Reference:
        Sabour, Frosst and Hinton, Dynamic routing between capsules (2017),
        section 6.1.
    """
    check_natural_integer("max_shift", max_shift)
    check_flag("own_images", own_images)
    train, validation, test = mnist(data_dir)
    settings = {"max_shift": max_shift, "own_images": own_images}
    return Splits(
        _pairs(train, seed, vary=True, **settings),
        _pairs(validation, 1, vary=False, **settings),
        _pairs(test, 2, vary=False, **settings),
    )


def _pairs(digits, seed, vary, max_shift, own_images):
    images, labels = digits.batch(len(digits)).get_single_element()
    # In sorted digits, those of other classes have two ranges of indices.
    order = np.argsort(labels.numpy(), kind="stable")
    counts = np.bincount(labels.numpy(), minlength=_CLASSES)
    starts = np.cumsum(counts) - counts
    counts, starts = tf.constant(counts), tf.constant(starts)
    size = _SIZE + 2 * max_shift
    sorted_images, sorted_labels = tf.gather(images, order), tf.gather(labels, order)

    def overlay(digit, random):
        image, label = digit
        others = len(order) - counts[label]
        partner = tf.random.stateless_uniform((), random, 0, others, tf.int64)
        partner += tf.where(partner >= starts[label], counts[label], 0)
        classes = tf.stack([label, sorted_labels[partner]])
        both = tf.stack(
            [
                place(image, size, max_shift, random + 1),
                place(sorted_images[partner], size, max_shift, random + 2),
            ]
        )
        scores = tf.reduce_sum(tf.one_hot(classes, _CLASSES), axis=0)
        if own_images:
            scores = {"scores": scores, "images": tf.gather(both, tf.argsort(classes))}
        return tf.reduce_max(both, axis=0), scores

    return with_random_seeds(digits, seed, vary).map(overlay, tf.data.AUTOTUNE)
