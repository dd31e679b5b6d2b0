"""Data sets whose images lie in the memory of the device."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_capsules import validation
from keras_capsules._backend import jit


class DeviceDataset(keras.utils.PyDataset):
    """Base class of data sets that make their batches on the device.

    The images are copied to the device once. What is random is drawn with NumPy for a
    whole epoch, so batches are the same on every backend; a batch is then one call of
    a compiled function. A subclass writes two methods:

    - `draw` draws an epoch: arrays with a row for each example;
    - `make` makes a batch of its rows of them.

    Every batch has the same size, so that a step is compiled once: what is left over of
    an epoch is left out. They are for JAX and PyTorch. TensorFlow takes them too, but
    copies each batch to the host and back: `tf.data` is faster there.

    Args:
        dataset: a `tf.data.Dataset` of `(image, label)`, of known length, or a tuple
            of arrays `(images, labels)`; all images of one shape.
        batch_size: images of a batch.
        seed: seed of everything that is drawn.

    Attributes:
        images: the images on the device, `(images, height, width, channels)`.
        labels: their labels on the device.

    Raises:
        ValueError: an argument is out of its range, there are not as many labels as
            images, or fewer than a batch has.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> from keras_capsules import datasets
    >>> class Noisy(datasets.DeviceDataset):
    ...     def draw(self, random):
    ...         count = len(self.images)
    ...         return random.permutation(count), random.normal(0, 0.1, size=count)
    ...
    ...     def make(self, images, labels, chosen, brighter):
    ...         images = keras.ops.take(images, chosen, axis=0)
    ...         brighter = keras.ops.reshape(brighter, (-1, 1, 1, 1))
    ...         return images + brighter, keras.ops.take(labels, chosen, axis=0)
    >>> data = Noisy((np.zeros((60, 28, 28, 1)), np.arange(60) % 10), batch_size=16)
    >>> images, labels = data[0]
    >>> len(data), tuple(images.shape)
    (3, (16, 28, 28, 1))
    """

    def __init__(self, dataset: Any, batch_size: int, seed: int = 0) -> None:
        super().__init__()
        images, labels = _arrays(dataset)
        self.batch_size = validation.check_positive_integer("batch_size", batch_size)
        if len(images) < batch_size:
            raise ValueError(
                "Argument `batch_size` must not exceed the number of images, "
                f"{len(images)}. Received: batch_size={batch_size}"
            )
        self.images = ops.convert_to_tensor(images)
        self.labels = ops.convert_to_tensor(labels)
        self._random = np.random.default_rng(seed)
        self._batch = jit(self._make)
        self.on_epoch_end()

    def draw(self, random: np.random.Generator) -> tuple:
        """Draws what is random in an epoch.

        Args:
            random: where the numbers come from.

        Returns:
            Arrays, each with a row for every image.
        """
        raise NotImplementedError

    def make(self, images: Any, labels: Any, *drawn: Any) -> tuple:
        """Makes a batch. It is compiled, and may use `keras.ops` alone.

        Args:
            images: all images.
            labels: all labels.
            *drawn: of each array that `draw` returned the rows of this batch.

        Returns:
            Images and labels of the batch.
        """
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.images) // self.batch_size

    def __getitem__(self, index: int) -> tuple:
        if not 0 <= index < len(self):
            raise IndexError(f"There are {len(self)} batches. Received: index={index}")
        # As a tensor, for a Python number would be compiled.
        index = ops.convert_to_tensor(index, "int32")
        return self._batch(self.images, self.labels, index, *self._drawn)

    def on_epoch_end(self) -> None:
        """Draws the next epoch; `fit` calls it."""
        count = len(self) * self.batch_size
        self._drawn = [
            # (batches, batch, …)
            ops.convert_to_tensor(
                _single(x[:count]).reshape(len(self), -1, *x.shape[1:])
            )
            for x in self.draw(self._random)
        ]

    def _make(self, images, labels, index, *drawn):
        drawn = (ops.take(x, index, axis=0) for x in drawn)
        return self.make(images, labels, *drawn)


class ShiftedImages(DeviceDataset):
    """Images on the device, each randomly shifted by a few pixels.

    It is what `random_shift`, `shuffle` and `batch` make of a `tf.data.Dataset`. What
    leaves the image is lost, and what enters it is black.

    Args:
        dataset: a `tf.data.Dataset` of `(image, label)`, of known length, or a tuple
            of arrays `(images, labels)`; all images of one shape.
        batch_size: images of a batch; what is left over of an epoch is left out.
        max_shift: the largest shift along each axis, in pixels, or 0.
        seed: seed of the order and of the shifts.

    Raises:
        ValueError: as `DeviceDataset` says.

    Example:

    >>> import numpy as np
    >>> from keras_capsules import datasets
    >>> arrays = np.random.rand(60, 28, 28, 1), np.arange(60) % 10
    >>> train = datasets.ShiftedImages(arrays, batch_size=20)
    >>> images, labels = train[0]
    >>> len(train), tuple(images.shape), tuple(labels.shape)
    (3, (20, 28, 28, 1), (20,))
    """

    def __init__(
        self, dataset: Any, batch_size: int, max_shift: int = 2, seed: int = 0
    ) -> None:
        self.max_shift = validation.check_natural_integer("max_shift", max_shift)
        super().__init__(dataset, batch_size, seed)

    def draw(self, random):
        count = len(self.images)
        return random.permutation(count), _shifts(random, self.max_shift, count)

    def make(self, images, labels, chosen, shift):
        size = images.shape[1:3]
        images = shifted(ops.take(images, chosen, axis=0), shift, size)
        return images, ops.take(labels, chosen, axis=0)


class OverlaidImages(DeviceDataset):
    """Pairs of overlapping images of different classes, made on the device.

    It makes of MNIST what `multi_mnist` has for training: each image is the first of
    at most one pair in an epoch; partners and shifts are drawn anew in every epoch.

    Args:
        dataset: a `tf.data.Dataset` of `(image, label)`, of known length, or a tuple
            of arrays `(images, labels)`; images of one shape and integer labels.
        batch_size: pairs of a batch; what is left over of an epoch is left out.
        max_shift: the largest distance of an image from the centre along each axis, in
            pixels, or 0. The canvas is so much larger on each side.
        classes: number of classes; `None` for one more than the largest label.
        own_images: whether labels also hold each image alone, as `multi_mnist` says.
        seed: seed of the order, the partners and the shifts.

    Attributes:
        images: the images on the device, sorted by their classes.
        labels: their labels on the device.

    Raises:
        ValueError: as `DeviceDataset` says, all images are of one class, or a label
            is no integer from 0 to `classes` - 1.

    Example:

    >>> import numpy as np
    >>> from keras_capsules import datasets
    >>> digits = np.random.rand(60, 28, 28, 1), np.arange(60) % 10
    >>> train = datasets.OverlaidImages(digits, batch_size=20)
    >>> images, labels = train[0]
    >>> tuple(images.shape), tuple(labels.shape)
    ((20, 36, 36, 1), (20, 10))

    Reference:
        Sabour, Frosst and Hinton, Dynamic routing between capsules (2017),
        section 6.1.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        max_shift: int = 4,
        classes: int | None = None,
        own_images: bool = False,
        seed: int = 0,
    ) -> None:
        self.own_images = validation.check_flag("own_images", own_images)
        self.max_shift = validation.check_natural_integer("max_shift", max_shift)
        images, labels = _arrays(dataset)
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise ValueError(
                "Argument `dataset` must have integer labels of one axis. Received: "
                f"labels of type {labels.dtype} and shape {labels.shape}"
            )
        classes = int(labels.max()) + 1 if classes is None else classes
        self.classes = validation.check_positive_integer("classes", classes)
        validation.check_labels(labels, self.classes, "dataset")
        # Sorted by class, the images of other classes are two runs of indices.
        order = np.argsort(labels, kind="stable")
        images, labels = images[order], labels[order]
        self._counts = np.bincount(labels, minlength=self.classes)
        if np.count_nonzero(self._counts) < 2:
            raise ValueError(
                "Argument `dataset` must have images of two classes. Received: "
                f"classes {np.flatnonzero(self._counts).tolist()}"
            )
        self._first = np.cumsum(self._counts) - self._counts
        self._sorted = labels
        super().__init__((images, labels), batch_size, seed)

    def draw(self, random):
        first = random.permutation(len(self._sorted))
        same = self._counts[self._sorted[first]]
        second = random.integers(len(self._sorted) - same)
        second += np.where(second >= self._first[self._sorted[first]], same, 0)
        shifts = (_shifts(random, self.max_shift, len(first)) for _ in range(2))
        return first, second, *shifts

    def make(self, images, labels, first, second, *shifts):
        size = tuple(s + 2 * self.max_shift for s in images.shape[1:3])
        pairs = zip((first, second), shifts, strict=True)
        both = [shifted(ops.take(images, i, axis=0), s, size) for i, s in pairs]
        classes = [ops.take(labels, i, axis=0) for i in (first, second)]
        scores = sum(ops.one_hot(c, self.classes) for c in classes)
        overlaid = ops.maximum(*both)
        if not self.own_images:
            return overlaid, scores
        smaller = ops.reshape(classes[0] < classes[1], (-1, 1, 1, 1))
        ordered = ops.where(smaller, *both), ops.where(smaller, *both[::-1])
        # (batch, 2, height, width, channels)
        return overlaid, {"scores": scores, "images": ops.stack(ordered, axis=1)}


def shifted(images: Any, shifts: Any, size: tuple[int, int]) -> Any:
    """Places each image near the centre of a black canvas.

    Args:
        images: `(batch, height, width, channels)`.
        shifts: from the centre down and to the right, in pixels, `(batch, 2)`, int32.
        size: height and width of the canvas.

    Returns:
        `(batch, *size, channels)`.

    Example:

    >>> import keras
    >>> image = keras.ops.reshape(keras.ops.arange(1.0, 5.0), (1, 2, 2, 1))
    >>> moved = shifted(image, keras.ops.convert_to_tensor([[1, 0]]), (2, 2))
    >>> [[int(pixel) for pixel in row] for row in moved[0, ..., 0]]
    [[0, 0], [1, 2]]
    """
    _, height, width, channels = images.shape
    # Where in the image each row and column of the canvas comes from.
    rows = ops.arange(size[0]) - (size[0] - height) // 2 - shifts[:, :1]
    columns = ops.arange(size[1]) - (size[1] - width) // 2 - shifts[:, 1:]
    rows, columns = rows[:, :, None], columns[:, None, :]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    pixels = ops.clip(rows, 0, height - 1) * width + ops.clip(columns, 0, width - 1)
    pixels = ops.reshape(pixels, (-1, size[0] * size[1], 1))
    images = ops.reshape(images, (-1, height * width, channels))
    images = ops.take_along_axis(images, pixels, axis=1)
    images = ops.reshape(images, (-1, *size, channels))
    return images * ops.cast(inside[..., None], images.dtype)


def _shifts(random, most, count):
    return random.integers(-most, most + 1, size=(count, 2))


def _arrays(dataset):
    """Images and labels as arrays."""
    if not isinstance(dataset, tuple):
        dataset = dataset.batch(len(dataset)).get_single_element()
    images, labels = map(_single, dataset)
    if len(images) != len(labels):
        raise ValueError(
            "Argument `dataset` must have a label for each image. Received: "
            f"{len(images)} images and {len(labels)} labels"
        )
    return images, labels


def _single(x):
    """Numbers in 32 bits at most, as devices have them."""
    x = np.asarray(x)
    return x.astype({"float64": "float32", "int64": "int32"}.get(x.dtype.name, x.dtype))
