"""Random placement and affine transforms of images."""

from math import pi
from typing import Any

import tensorflow as tf

from keras_capsules.validation import check_natural_integer, check_shape


def random_shift(
    dataset: tf.data.Dataset, max_shift: int = 2, seed: int = 0
) -> tf.data.Dataset:
    """Randomly shifts each image by a few pixels.

    Pixels that are shifted beyond the border are lost; the opposite side is filled with
    black.

    Args:
        dataset: `(image, label)` pairs with images `(height, width, channels)`.
        max_shift: the largest shift along each axis, in pixels; 0 for no shifts.
        seed: seed of the shifts, which differ from epoch to epoch and also depend on
            TensorFlow's global seed.

    Returns:
        The data set with shifted images.

    Raises:
        ValueError: `max_shift` is not an integer of at least 0.

    Example:

    >>> import tensorflow as tf
    >>> from keras_capsules.datasets import random_shift
    >>> images = tf.data.Dataset.from_tensors((tf.ones((28, 28, 1)), 7))
    >>> image, label = next(iter(random_shift(images)))
    >>> tuple(image.shape), int(label)
    ((28, 28, 1), 7)
    """
    check_natural_integer("max_shift", max_shift)
    shape = "(height, width, channels)"
    check_shape("dataset", dataset.element_spec[0], shape, 3, (0, 1, 2))
    margin = [[max_shift, max_shift], [max_shift, max_shift], [0, 0]]

    def shift(example, random):
        image, label = example
        padded = tf.pad(image, margin)
        return tf.image.stateless_random_crop(padded, image.shape, random), label

    return with_random_seeds(dataset, seed).map(shift, tf.data.AUTOTUNE)


def random_flip(dataset: tf.data.Dataset, seed: int = 0) -> tf.data.Dataset:
    """Randomly mirrors images from left to right, with a probability of 1/2.

    Args:
        dataset: `(image, label)` pairs with images `(height, width, channels)`.
        seed: seed of the choices, which differ from epoch to epoch and also depend on
            TensorFlow's global seed.

    Returns:
        The data set with images of the same shape.

    Example:

    >>> import tensorflow as tf
    >>> from keras_capsules.datasets import random_flip
    >>> images = tf.data.Dataset.from_tensors((tf.ones((32, 32, 3)), 7))
    >>> image, label = next(iter(random_flip(images)))
    >>> tuple(image.shape), int(label)
    ((32, 32, 3), 7)
    """

    def flip(example, random):
        image, label = example
        return tf.image.stateless_random_flip_left_right(image, random), label

    return with_random_seeds(dataset, seed).map(flip, tf.data.AUTOTUNE)


def with_random_seeds(
    dataset: tf.data.Dataset, seed: int, vary: bool = True
) -> tf.data.Dataset:
    """Pairs each element with a seed for stateless random operations.

    Args:
        dataset: any data set.
        seed: seed from which the seeds of the elements are derived.
        vary: whether the seeds differ from epoch to epoch. They then also depend on
            TensorFlow's global seed. Otherwise they depend on `seed` only.

    Returns:
        Data set of `(element, seed)`, where `seed` is a tensor of 2 integers.
    """
    if vary:
        seeds = tf.data.Dataset.random(seed, rerandomize_each_iteration=True).batch(2)
    else:
        seeds = tf.data.Dataset.counter().map(lambda index: tf.stack([seed, index]))
    return tf.data.Dataset.zip(dataset, seeds)


def place(image: tf.Tensor, size: int, max_shift: int, seed: tf.Tensor) -> tf.Tensor:
    """Places an image at a random position near the centre of a larger black canvas.

    Args:
        image: image `(height, width, channels)`.
        size: height and width of the canvas.
        max_shift: the largest distance from the centre along each axis, in
            pixels.
        seed: seed of the position, a tensor of 2 integers.

    Returns:
        The canvas, `(size, size, channels)`.
    """
    height, width, _ = image.shape
    shift = tf.random.stateless_uniform(
        (2,), seed, -max_shift, max_shift + 1, dtype=tf.int32
    )
    top, left = (size - height) // 2 + shift[0], (size - width) // 2 + shift[1]
    return tf.image.pad_to_bounding_box(image, top, left, size, size)


def affine(
    image: tf.Tensor,
    size: tuple[int, int],
    rotation: Any,
    shear: Any,
    scale: Any,
    shift: Any,
) -> tf.Tensor:
    """Places an image on a canvas, scaled, sheared and rotated around its centre.

    Args:
        image: float32 image `(height, width, channels)`.
        size: height and width of the canvas.
        rotation: angle in degrees, clockwise.
        shear: distance by which a point moves to the right for each pixel that it is
            below the centre.
        scale: factors along height and width, `(2,)`.
        shift: from the centre of the canvas down and to the right, in pixels,
            `(2,)`.

    Returns:
        The canvas, `(*size, channels)`.
    """
    scale, shift = tf.cast(scale, tf.float32), tf.cast(shift, tf.float32)
    angle = tf.cast(rotation, tf.float32) * pi / 180.0
    cos, sin = tf.cos(angle), tf.sin(angle)
    # From image to canvas, in (x, y) relative to the centres: rotation · shear · scale.
    forward = tf.stack(
        [
            [cos * scale[1], (cos * shear - sin) * scale[0]],
            [sin * scale[1], (sin * shear + cos) * scale[0]],
        ]
    )
    # The operation needs the transform from the canvas to the image.
    backward = tf.linalg.inv(forward)
    height, width, _ = image.shape
    image_centre = tf.constant([width - 1.0, height - 1.0]) / 2.0
    canvas_centre = shift[::-1] + tf.constant([size[1] - 1.0, size[0] - 1.0]) / 2.0
    offset = image_centre - tf.linalg.matvec(backward, canvas_centre)
    rows = tf.concat([backward, offset[:, None]], axis=1)  # (2, 3)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=tf.concat([tf.reshape(rows, (1, 6)), tf.zeros((1, 2))], axis=1),
        output_shape=size,
        fill_value=0.0,
        interpolation="BILINEAR",
    )[0]
