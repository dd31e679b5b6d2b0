import os

import tensorflow as tf

from keras_capsules.datasets.mnist import mnist
from keras_capsules.datasets.placement import affine, place, with_random_seeds
from keras_capsules.datasets.splits import Splits

_SIZE = 40
_MAX_SHIFT = 6
_ROTATION = 20.0  # degrees
_SHEAR = 0.2
_SCALE = (0.8, 1.2)


def aff_mnist(
    data_dir: str | os.PathLike | None = None, seed: int = 0, affine: bool = True
) -> Splits:
    """Loads MNIST digits on a larger canvas, with affine transforms of the test digits.

    Training and validation digits are placed at random positions on a black 40×40
    canvas, up to 6 pixels from its centre along each axis, and are otherwise unchanged.
    The positions of the training digits are drawn anew in every epoch. Test digits are
    transformed like those of affNIST: rotated by up to 20 degrees, sheared by up to
    0.2, scaled by 0.8 to 1.2 along each axis, and moved to a random position at which
    no part is cut off. No training image has such a transform.

    Args:
        data_dir: as for `datasets.mnist`.
        seed: seed of the training positions, which also depend on TensorFlow's global
            seed. Validation and test images are always the same.
        affine: whether test digits are transformed. With `False` they are placed like
            the validation digits. To compare networks on transformed digits, choose
            ones with equal accuracy on these.

    Returns:
        Splits of `(image, label)`: a float32 image `(40, 40, 1)` with values
        from 0 to 1 and an int32 label.

    Raises:
        FileNotFoundError: MNIST is missing and can't be downloaded.
        ValueError: the files of the data set are damaged.

    Example:

    ```python
    train, validation, test = datasets.aff_mnist(seed=1)
    ```

    Reference:
        Sabour, Frosst and Hinton, Dynamic routing between capsules (2017),
        section 5.2; after Tieleman's affNIST.
    """
    train, validation, test = mnist(data_dir)

    def placed(example, random):
        image, label = example
        return place(image, _SIZE, _MAX_SHIFT, random), label

    def transformed(example, random):
        image, label = example
        return _transform(image, random), label

    return Splits(
        with_random_seeds(train, seed).map(placed, tf.data.AUTOTUNE),
        with_random_seeds(validation, 1, vary=False).map(placed, tf.data.AUTOTUNE),
        with_random_seeds(test, 2, vary=False).map(
            transformed if affine else placed, tf.data.AUTOTUNE
        ),
    )


def _transform(image, seed):
    limits = tf.constant([(-_ROTATION, _ROTATION), (-_SHEAR, _SHEAR), _SCALE, _SCALE])
    drawn = tf.random.stateless_uniform((4,), seed, limits[:, 0], limits[:, 1])
    size = _SIZE, _SIZE
    image = affine(image, size, drawn[0], drawn[1], drawn[2:], (0.0, 0.0))
    # The digit is moved to any position at which it lies on the canvas completely.
    used = tf.where(tf.reduce_any(image > 0.0, axis=-1))
    first, last = tf.reduce_min(used, axis=0), tf.reduce_max(used, axis=0)
    share = tf.random.stateless_uniform((2,), seed + 1)
    room = tf.cast(_SIZE - (last - first), tf.float32)
    target = tf.cast(share * room, tf.int64)
    return tf.roll(image, target - first, axis=(0, 1))
