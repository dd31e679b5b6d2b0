"""Distorted images of digits, on the device."""

from math import pi
from typing import Any

import numpy as np
from keras import ops

from keras_capsules import validation
from keras_capsules.datasets.device import DeviceDataset, shifted
from keras_capsules.datasets.distortion import check_erased


class DistortedImages(DeviceDataset):
    """Images on the device, randomly rotated, squeezed, shifted and partly erased.

    The batches have the same distribution as those of `random_distortion`, `shuffle`
    and `batch` for a `tf.data.Dataset`.

    Args:
        dataset: a `tf.data.Dataset` of `(image, label)`, of known length, or a tuple
            of arrays `(images, labels)`. All images have the same shape and a black
            background.
        batch_size: number of images in a batch. An incomplete last batch is omitted.
        max_rotation: the largest angle of a rotation, in degrees, in both directions.
        max_squeeze: the largest decrease of the width, as a fraction below 1.
        erased: height and width of the square that becomes black, in pixels. Its
            distance from the border is at least as large. 0 erases nothing.
        seed: seed of the order and of the distortions.

    Raises:
        ValueError: an argument is out of its range, or as for `DeviceDataset`.

    Example:

    >>> import numpy as np
    >>> from keras_capsules import datasets
    >>> arrays = np.random.rand(60, 28, 28, 1), np.arange(60) % 10
    >>> train = datasets.DistortedImages(arrays, batch_size=20)
    >>> images, labels = train[0]
    >>> len(train), tuple(images.shape), tuple(labels.shape)
    (3, (20, 28, 28, 1), (20,))

    Reference:
        Mazzia, Salvetti and Chiaberge, Efficient-CapsNet: capsule network with
        self-attention routing (2021), section 4, and the authors' code.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        max_rotation: float = 30.0,
        max_squeeze: float = 0.25,
        erased: int = 4,
        seed: int = 0,
    ) -> None:
        self.max_rotation = validation.check_at_least("max_rotation", max_rotation, 0)
        self.max_squeeze = validation.check_momentum("max_squeeze", max_squeeze)
        self.erased = erased
        super().__init__(dataset, batch_size, seed)
        check_erased(erased, self.images.shape[1:3])

    def draw(self, random):
        count = len(self.images)
        amounts = np.clip(random.normal(0.0, 1.0 / 3.0, (count, 4)), -1.0, 1.0)
        amounts[:, 0] *= random.integers(2, size=count)  # half of the images
        return random.permutation(count), amounts, random.random((count, 2))

    def make(self, images, labels, chosen, amounts, corner):
        _, *size, _ = images.shape
        images = ops.image.affine_transform(
            ops.cast(ops.take(images, chosen, axis=0), amounts.dtype),
            _backward(
                amounts[:, 0] * self.max_rotation * pi / 180.0,
                1.0 - ops.abs(amounts[:, 1]) * self.max_squeeze,
                size,
            ),
            data_format="channels_last",
        )
        margins = (_margin(images, 1, amounts[:, 2]), _margin(images, 2, amounts[:, 3]))
        steps = ops.round(amounts[:, 2:] * ops.stack(margins, axis=1))
        images = shifted(images, ops.cast(steps, "int32"), size)
        return images * self._all_but_a_square(size, corner), ops.take(
            labels, chosen, axis=0
        )

    def _all_but_a_square(self, size, corner):
        """Returns ones, with a square of zeros, `(batch, height, width, 1)`."""
        inside = []
        for axis, length in enumerate(size):
            room = length - 3 * self.erased + 1
            first = self.erased + ops.floor(corner[:, axis, None] * room)
            places = ops.arange(length, dtype=corner.dtype)
            inside.append((places >= first) & (places < first + self.erased))
        square = inside[0][:, :, None, None] & inside[1][:, None, :, None]
        return 1.0 - ops.cast(square, corner.dtype)


def _backward(angle, squeeze, size):
    """Returns the inverse of a squeeze and a clockwise rotation, `(batch, 8)`."""
    cos, sin = ops.cos(angle), ops.sin(angle)
    row, column = ((length - 1.0) / 2.0 for length in size)
    # The inverse of rotation · squeeze, around the centre.
    xx, xy, yx, yy = cos / squeeze, sin / squeeze, -sin, cos
    x = column - xx * column - xy * row
    y = row - yx * column - yy * row
    zeros = ops.zeros_like(angle)
    return ops.stack([xx, xy, x, yx, yy, y, zeros, zeros], axis=1)


def _margin(images, axis, amount):
    """Returns the largest shift along an axis, in the direction of `amount`."""
    others = tuple({1, 2, 3} - {axis})
    used = ops.cast(ops.any(images > 0.0, others), "int32")
    # `argmax` returns the first maximum: for a black image 0, so it is not shifted.
    before, after = ops.argmax(used, 1), ops.argmax(ops.flip(used, 1), 1)
    return ops.cast(ops.where(amount < 0.0, before, after), amount.dtype)
