"""Data sets whose images are in the memory of the device."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_capsules import validation
from keras_capsules._backend import jit


class DeviceDataset(keras.utils.PyDataset):
    """Base class of data sets that create their batches on the device.

    The images are copied to the device once. The random numbers of a whole epoch are
    drawn with NumPy, so that batches are the same on every backend. One call of a
    compiled function then creates a batch. A subclass implements two methods:

    - `draw` draws the random numbers of an epoch, arrays with a row for each example;
    - `make` creates a batch from the rows of its examples.

    Every batch has the same size, so that a training step is compiled once. Images that
    do not fill a batch at the end of an epoch are omitted. These data sets are intended
    for JAX and PyTorch. They also work with TensorFlow, which copies each batch to the
    host and back; there `tf.data` is faster.

    Args:
        dataset: a `tf.data.Dataset` of `(image, label)`, of known length, or a tuple
            of arrays `(images, labels)`. All images have the same shape.
        batch_size: number of images in a batch.
        seed: seed of the random numbers.

    Attributes:
        images: the images on the device, `(images, height, width, channels)`.
        labels: the labels of the images, on the device.

    Raises:
        ValueError: an argument is out of its range, the data set has another form,
            there is not one label for each image, or there are fewer images than
            `batch_size`.

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
        """Draws the random numbers of an epoch.

        Args:
            random: the generator of the random numbers.

        Returns:
            A tuple of arrays, each with a row for every example of the epoch.
        """
        raise NotImplementedError

    def make(self, images: Any, labels: Any, *drawn: Any) -> tuple:
        """Creates a batch.

        The method is compiled, so it can only use operations of `keras.ops`.

        Args:
            images: all images.
            labels: all labels.
            *drawn: the rows of this batch, from each array that `draw` returned.

        Returns:
            A tuple of the images and the labels of the batch.
        """
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.images) // self.batch_size

    def __getitem__(self, index: int) -> tuple:
        if not 0 <= index < len(self):
            raise IndexError(f"There are {len(self)} batches. Received: index={index}")
        # A Python number would be compiled into the function as a constant.
        index = ops.convert_to_tensor(index, "int32")
        return self._batch(self.images, self.labels, index, *self._drawn)

    def on_epoch_end(self) -> None:
        """Draws the random numbers of the next epoch. `fit` calls this method."""
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

    The batches have the same distribution as those of `random_shift`, `shuffle` and
    `batch` for a `tf.data.Dataset`. Pixels that are shifted beyond the border are lost;
    the opposite side is filled with black.

    Args:
        dataset: a `tf.data.Dataset` of `(image, label)`, of known length, or a tuple
            of arrays `(images, labels)`. All images have the same shape.
        batch_size: number of images in a batch. An incomplete last batch is omitted.
        max_shift: the largest shift along each axis, in pixels; 0 for no shifts.
        seed: seed of the order and of the shifts.

    Raises:
        ValueError: `max_shift` is not an integer of at least 0, or as for
            `DeviceDataset`.

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
    """Pairs of overlapping images of different classes, created on the device.

    With the training images of MNIST it is the training set of `multi_mnist`. In an
    epoch, each image is the first image of at most one pair. The second images and the
    shifts are drawn anew in every epoch.

    Args:
        dataset: a `tf.data.Dataset` of `(image, label)`, of known length, or a tuple
            of arrays `(images, labels)`. All images have the same shape, and labels are
            integers.
        batch_size: number of pairs in a batch. An incomplete last batch is omitted.
        max_shift: the largest distance of an image from the centre along each axis, in
            pixels. Each side of the canvas is extended by this number of pixels.
        classes: number of classes; by default the largest label plus 1.
        own_images: whether a label also contains each image alone, as for
            `multi_mnist`.
        seed: seed of the order, the second images and the shifts.

    Attributes:
        images: the images on the device, sorted by class.
        labels: the labels of the images, on the device.

    Raises:
        ValueError: all images are of one class, a label is not an integer from 0 to
            `classes` - 1, another argument is out of its range, or as for
            `DeviceDataset`.

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
        # In sorted images, those of other classes have two ranges of indices.
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
    """Places each image on a black canvas, with a shift from the centre.

    Args:
        images: images `(batch, height, width, channels)`.
        shifts: shifts from the centre down and to the right, in pixels, int32
            `(batch, 2)`.
        size: height and width of the canvas.

    Returns:
        Images `(batch, *size, channels)`.

    Example:

    >>> import keras
    >>> image = keras.ops.reshape(keras.ops.arange(1.0, 5.0), (1, 2, 2, 1))
    >>> moved = shifted(image, keras.ops.convert_to_tensor([[1, 0]]), (2, 2))
    >>> [[int(pixel) for pixel in row] for row in moved[0, ..., 0]]
    [[0, 0], [1, 2]]
    """
    _, height, width, channels = images.shape
    # For each row and column of the canvas, its row and column in the image.
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
    """Returns the images and labels of a data set as arrays."""
    if not isinstance(dataset, tuple):
        try:
            count, image = len(dataset), dataset.element_spec[0]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                "Argument `dataset` must be a tuple of arrays or a tf.data.Dataset of "
                f"(image, label), of known length. Received: {dataset} ({error})"
            ) from error
        validation.check_shape("dataset", image, "(height, width, channels)", 3)
        if not count:
            raise ValueError("Argument `dataset` must have examples. Received none")
        dataset = dataset.batch(count).get_single_element()
    images, labels = map(_single, dataset)
    if images.ndim != 4 or not images.size:
        raise ValueError(
            "Argument `dataset` must have images (images, height, width, channels). "
            f"Received: shape {images.shape}"
        )
    if len(images) != len(labels):
        raise ValueError(
            "Argument `dataset` must have a label for each image. Received: "
            f"{len(images)} images and {len(labels)} labels"
        )
    return images, labels


def _single(x):
    """Converts an array of 64-bit numbers to 32 bits."""
    x = np.asarray(x)
    return x.astype({"float64": "float32", "int64": "int32"}.get(x.dtype.name, x.dtype))
