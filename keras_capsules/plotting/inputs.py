"""What figures are drawn from: images, labels and the names of classes."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_capsules import validation
from keras_capsules.ops import class_indicators


def check_has_decoder(model: keras.Model) -> None:
    """Raises an error if a model can't draw images from poses."""
    if not hasattr(model, "decode"):
        raise ValueError(
            "Argument `model` must have `decode`, as CapsNet does. "
            f"Received: {type(model).__name__}"
        )


def batch_of(images: Any, shape: tuple[int, int, int]) -> np.ndarray:
    """Images as a network takes them.

    Args:
        images: an array, a list, or a tensor of any backend.
        shape: `(height, width, channels)` of the network's images.

    Returns:
        Float32 images `(n, height, width, channels)`.

    Raises:
        ValueError: they have another shape, are none, or are integers.

    Example:

    >>> batch_of([[[[0.0], [1.0]]]], (1, 2, 1)).shape
    (1, 1, 2, 1)
    """
    array = _floats("images", images)
    if array.ndim != 4 or array.shape[1:] != tuple(shape) or not len(array):
        expected = ", ".join(map(str, shape))
        raise ValueError(
            f"Argument `images` must have shape (n, {expected}), with n at least 1. "
            f"Received: shape {array.shape}"
        )
    return array


def images_of(model: keras.Model, images: Any) -> tuple[np.ndarray, np.ndarray]:
    """Images as a network takes them, and as they are drawn.

    Args:
        model: a network. One that scales images itself also takes integers.
        images: an array, a list, or a tensor of any backend.

    Returns:
        Float32 images `(n, height, width, channels)`, and the same as the network's
        decoder is to draw them.

    Raises:
        ValueError: they have another shape, are none, or are integers that the network
            does not scale.
    """
    if getattr(model, "preprocess", None) is not None:
        images = keras.ops.convert_to_numpy(images).astype("float32")
    images = batch_of(images, model.image_shape)
    if not hasattr(model, "drawn_images"):
        return images, images
    return images, keras.ops.convert_to_numpy(model.drawn_images(images))


def one_image(image: Any, shape: tuple[int, int, int]) -> np.ndarray:
    """An image, alone or as a batch of one.

    Args:
        image: an array, a list, or a tensor of any backend.
        shape: `(height, width, channels)` of the network's images.

    Returns:
        A float32 image `(height, width, channels)`.

    Raises:
        ValueError: it has another shape or is of integers.

    Example:

    >>> one_image([[[[0.0], [1.0]]]], (1, 2, 1)).shape
    (1, 2, 1)
    """
    array = _floats("image", image)
    if array.shape not in (tuple(shape), (1, *shape)):
        raise ValueError(
            f"Argument `image` must have shape {tuple(shape)} or {(1, *shape)}. "
            f"Received: shape {array.shape}"
        )
    return array.reshape(shape)


def present_classes(
    labels: Any, classes: int, count: int, several: bool = True
) -> np.ndarray:
    """Which classes are there, as labels say it.

    Args:
        labels: integers, one-hot or multi-hot labels.
        classes: the number of classes.
        count: the number of images.
        several: whether an image may show several classes.

    Returns:
        Booleans `(count, classes)`.

    Raises:
        ValueError: there is not one label for each image, or labels are not what
            `validation.check_labels` asks for.

    Example:

    >>> present_classes([1, 0], classes=2, count=2)
    array([[False,  True],
           [ True, False]])
    """
    if not hasattr(labels, "shape"):
        labels = np.asarray(labels)
    validation.check_labels(labels, classes)
    if not several:
        validation.check_count_of_classes(labels, classes, 1, "one is shown")
    indicators = keras.ops.convert_to_numpy(class_indicators(labels, classes))
    if len(indicators) != count:
        raise ValueError(
            "Argument `labels` must hold a label for each image. Received: "
            f"{len(indicators)} labels for {count} images"
        )
    if several:
        return indicators > 0.5
    return np.eye(classes, dtype=bool)[indicators.argmax(-1)]


def names_of(class_names: Sequence[str] | None, classes: int) -> list[str]:
    """What classes are called in a figure: their names, or else their numbers.

    Args:
        class_names: a name for each class, or `None`.
        classes: the number of classes.

    Returns:
        The names.

    Raises:
        ValueError: there is not one name for each class.

    Example:

    >>> names_of(None, 2), names_of(("cat", "dog"), 2)
    (['0', '1'], ['cat', 'dog'])
    """
    if class_names is None:
        return [str(label) for label in range(classes)]
    return list(validation.check_class_names("class_names", class_names, classes))


def _floats(name, images):
    array = keras.ops.convert_to_numpy(images)
    if not np.issubdtype(array.dtype, np.floating) and array.dtype.name != "bfloat16":
        raise ValueError(
            f"Argument `{name}` must hold floats, as the network was trained on: "
            f"pixels from 0 to 255 divided by 255, say. Received: {array.dtype}"
        )
    return array.astype("float32")
