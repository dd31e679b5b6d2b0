"""Distorted images of digits, on the host."""

from numbers import Integral

import tensorflow as tf

from keras_capsules import validation
from keras_capsules.datasets.placement import affine, with_random_seeds


def random_distortion(
    dataset: tf.data.Dataset,
    max_rotation: float = 30.0,
    max_squeeze: float = 0.25,
    erased: int = 4,
    seed: int = 0,
) -> tf.data.Dataset:
    """Randomly rotates, squeezes and shifts each image, and erases a square.

    Each image is rotated with a probability of 1/2. Its width is decreased, it is
    shifted without being cut off, and a square of it becomes black. Small distortions
    are more frequent than large ones: their sizes have a normal distribution, clipped
    at three standard deviations.

    Args:
        dataset: `(image, label)` pairs. An image is float32
            `(height, width, channels)`, with a black background.
        max_rotation: the largest angle of a rotation, in degrees, in both directions.
        max_squeeze: the largest decrease of the width, as a fraction below 1.
        erased: height and width of the square, in pixels. Its distance from the border
            is at least as large. 0 erases nothing.
        seed: seed of the distortions, which differ from epoch to epoch and also depend
            on TensorFlow's global seed.

    Returns:
        The data set with distorted images.

    Raises:
        ValueError: an argument is out of its range, or the data set is of batches.

    Example:

    >>> import tensorflow as tf
    >>> from keras_capsules.datasets import random_distortion
    >>> images = tf.data.Dataset.from_tensors((tf.ones((28, 28, 1)), 7))
    >>> image, label = next(iter(random_distortion(images)))
    >>> tuple(image.shape), int(label)
    ((28, 28, 1), 7)

    Reference:
        Mazzia, Salvetti and Chiaberge, Efficient-CapsNet: capsule network with
        self-attention routing (2021), section 4, and the authors' code.
    """
    validation.check_at_least("max_rotation", max_rotation, 0)
    validation.check_momentum("max_squeeze", max_squeeze)
    height, width, _ = validation.check_shape(
        "dataset", dataset.element_spec[0], "(height, width, channels)", 3, (0, 1, 2)
    )
    check_erased(erased, (height, width))

    def distort(example, seed):
        image, label = example
        first, second = tf.unstack(tf.random.split(seed, 2))
        # The amounts of rotation, squeeze and shift along both axes.
        amounts = tf.clip_by_value(
            tf.random.stateless_normal((4,), first, stddev=1 / 3), -1.0, 1.0
        )
        rotated, *corner = tf.unstack(tf.random.stateless_uniform((3,), second))
        image = affine(
            image,
            (height, width),
            rotation=amounts[0] * max_rotation * tf.round(rotated),
            shear=0.0,
            scale=[1.0, 1.0 - tf.abs(amounts[1]) * max_squeeze],
            shift=[0.0, 0.0],
        )
        for axis, amount in enumerate(tf.unstack(amounts[2:])):
            image = _shifted_inside(image, axis, amount)
        return image * _all_but_a_square(image.shape, erased, corner), label

    return with_random_seeds(dataset, seed).map(distort, tf.data.AUTOTUNE)


def check_erased(erased: int, size: tuple) -> None:
    """Raises an error if the square to erase is too large for an image.

    Args:
        erased: height and width of the square.
        size: height and width of the image.

    Raises:
        ValueError: `erased` is not an integer from 0 to a third of the height and of
            the width.
    """
    integer = isinstance(erased, Integral) and not isinstance(erased, bool)
    if not integer or not 0 <= erased <= min(size) // 3:
        raise ValueError(
            "Argument `erased` must be an integer from 0 to a third of the image's "
            f"height and width, {tuple(size)}. Received: erased={erased!r}"
        )


def _shifted_inside(image, axis, amount):
    """Shifts an image by a fraction, from -1 to 1, of the black margin on that side."""
    others = tuple({0, 1, 2} - {axis})
    used = tf.cast(tf.reduce_any(image > 0.0, others), tf.int32)
    # `argmax` returns the first maximum: for a black image 0, so it is not shifted.
    margins = tf.argmax(used), tf.argmax(tf.reverse(used, [0]))
    margin = tf.cast(tf.where(amount < 0.0, *margins), tf.float32)
    return tf.roll(image, tf.cast(tf.round(amount * margin), tf.int32), axis)


def _all_but_a_square(shape, size, corner):
    """Returns ones, with a square of zeros at a position given from 0 to 1."""
    inside = []
    for length, part in zip(shape[:2], corner, strict=True):
        first = size + tf.floor(part * (length - 3 * size + 1))
        places = tf.range(float(length))
        inside.append((places >= first) & (places < first + size))
    square = inside[0][:, None, None] & inside[1][None, :, None]
    return tf.cast(~square, tf.float32)
