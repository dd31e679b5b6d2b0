"""Placing images at random on a canvas."""

import tensorflow as tf


def random_shift(
    dataset: tf.data.Dataset, max_shift: int = 2, seed: int = 0
) -> tf.data.Dataset:
    """Shifts each image by a few pixels, differently every time it is seen.

    What leaves the image is lost, and what enters it is black.

    Args:
        dataset: `(image, label)` pairs, an image `(height, width, channels)`.
        max_shift: the largest shift along each axis, in pixels.
        seed: seed of the shifts.

    Returns:
        The data set with shifted images.

    Example:

    >>> import tensorflow as tf
    >>> images = tf.data.Dataset.from_tensors((tf.ones((28, 28, 1)), 7))
    >>> image, label = next(iter(random_shift(images)))
    >>> tuple(image.shape), int(label)
    ((28, 28, 1), 7)
    """
    margin = [[max_shift, max_shift], [max_shift, max_shift], [0, 0]]

    def shift(example, random):
        image, label = example
        padded = tf.pad(image, margin)
        return tf.image.stateless_random_crop(padded, image.shape, random), label

    return with_random_seeds(dataset, seed).map(shift, tf.data.AUTOTUNE)


def with_random_seeds(
    dataset: tf.data.Dataset, seed: int, vary: bool = True
) -> tf.data.Dataset:
    """Pairs each element with a seed for stateless random operations.

    Args:
        dataset: any data set.
        seed: seed of the seeds.
        vary: whether the seeds differ from epoch to epoch.

    Returns:
        Data set of `(element, seed)`, a seed being a tensor of 2 integers.
    """
    seeds = tf.data.Dataset.random(seed, rerandomize_each_iteration=vary).batch(2)
    return tf.data.Dataset.zip(dataset, seeds)


def place(image: tf.Tensor, size: int, max_shift: int, seed: tf.Tensor) -> tf.Tensor:
    """Places an image near the centre of a larger black canvas.

    Args:
        image: `(height, width, channels)`.
        size: height and width of the canvas.
        max_shift: the largest distance from the centre along each axis, in
            pixels.
        seed: seed of 2 integers.

    Returns:
        The canvas, `(size, size, channels)`.
    """
    height, width, _ = image.shape
    shift = tf.random.stateless_uniform(
        (2,), seed, -max_shift, max_shift + 1, dtype=tf.int32
    )
    top, left = (size - height) // 2 + shift[0], (size - width) // 2 + shift[1]
    return tf.image.pad_to_bounding_box(image, top, left, size, size)
