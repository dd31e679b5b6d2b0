import os

import tensorflow as tf

from keras_capsules.datasets.mnist import mnist
from keras_capsules.datasets.placement import place, with_random_seeds
from keras_capsules.datasets.splits import Splits

_SIZE = 40
_MAX_SHIFT = (_SIZE - 28) // 2
_ROTATION = 20.0  # degrees
_SHEAR = 0.2
_SCALE = 0.8, 1.2


def aff_mnist(data_dir: str | os.PathLike | None = None, seed: int = 0) -> Splits:
    """MNIST for the test of affine robustness.

    Training and validation digits lie at random on a black 40×40 canvas and are
    otherwise unchanged. Test digits are rotated by up to 20 degrees, sheared by
    up to 0.2, scaled by 0.8 to 1.2 along each axis, and moved over the same
    range of positions: a change that the network has never seen. The positions
    of the training digits are drawn anew in every epoch.

    Args:
        data_dir: as for `datasets.mnist`.
        seed: seed of the positions and transformations.

    Returns:
        Splits of `(image, label)`: a float32 image `(40, 40, 1)` with values
        from 0 to 1 and an int32 label.

    Raises:
        FileNotFoundError: MNIST is missing and can't be downloaded.

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
        return _affine(image, random), label

    return Splits(
        with_random_seeds(train, seed).map(placed, tf.data.AUTOTUNE),
        with_random_seeds(validation, seed + 1, vary=False).map(placed),
        with_random_seeds(test, seed + 2, vary=False).map(transformed),
    )


def _affine(image, seed):
    angle, shear, height, width, down, right = tf.unstack(
        tf.random.stateless_uniform(
            (6,),
            seed,
            [-_ROTATION, -_SHEAR, _SCALE[0], _SCALE[0], -_MAX_SHIFT, -_MAX_SHIFT],
            [_ROTATION, _SHEAR, _SCALE[1], _SCALE[1], _MAX_SHIFT, _MAX_SHIFT],
        )
    )
    angle *= 3.141592653589793 / 180.0
    cos, sin = tf.cos(angle), tf.sin(angle)
    # Digit to canvas, in (x, y) around the centres: rotation · shear · scale.
    forward = tf.stack(
        [
            [cos * width, (cos * shear - sin) * height],
            [sin * width, (sin * shear + cos) * height],
        ]
    )
    # The operation asks where in the digit each pixel of the canvas comes from.
    inverse = tf.linalg.inv(forward)
    digit_centre = (tf.cast(tf.shape(image)[:2], tf.float32)[::-1] - 1.0) / 2.0
    canvas_centre = tf.stack([right, down]) + (_SIZE - 1.0) / 2.0
    offset = digit_centre - tf.linalg.matvec(inverse, canvas_centre)
    transform = tf.concat([tf.concat([inverse, offset[:, None]], 1), [[0.0] * 3]], 0)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=tf.reshape(transform, (1, 9))[:, :8],
        output_shape=(_SIZE, _SIZE),
        fill_value=0.0,
        interpolation="BILINEAR",
    )[0]
