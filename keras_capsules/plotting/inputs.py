"""Checks of the inputs of figures: images, labels and class names."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_capsules import validation
from keras_capsules.ops import class_indicators


def check_has_decoder(model: keras.Model) -> None:
    """Raises an error if a model can't decode poses to images."""
    if not hasattr(model, "decode"):
        raise ValueError(
            "Argument `model` must have `decode`, as CapsNet does. "
            f"Received: {type(model).__name__}"
        )


def batch_of(images: Any, shape: tuple[int, int, int]) -> np.ndarray:
    """Converts a batch of images to float32 and checks its shape.

    Args:
        images: an array, a list, or a tensor of any backend.
        shape: `(height, width, channels)` of the network's images.

    Returns:
        Float32 images `(n, height, width, channels)`.

    Raises:
        ValueError: the images have a wrong shape, there are none, or they are integers.

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
    """Returns images as inputs of a network, and as targets of its decoder.

    Args:
        model: a network. If it scales images itself, they can be integers.
        images: an array, a list, or a tensor of any backend.

    Returns:
        A tuple of float32 images `(n, height, width, channels)`, and the same images
        scaled like the reconstructions of the network's decoder.

    Raises:
        ValueError: the images have a wrong shape, there are none, or they are integers
            and the network does not scale them.
    """
    if getattr(model, "preprocess", None) is not None:
        images = keras.ops.convert_to_numpy(images).astype("float32")
    images = batch_of(images, model.image_shape)
    if not hasattr(model, "drawn_images"):
        return images, images
    return images, keras.ops.convert_to_numpy(model.drawn_images(images))


def one_image(image: Any, shape: tuple[int, int, int]) -> np.ndarray:
    """Converts an image, or a batch of one, to float32 and checks its shape.

    Args:
        image: an array, a list, or a tensor of any backend.
        shape: `(height, width, channels)` of the network's images.

    Returns:
        A float32 image `(height, width, channels)`.

    Raises:
        ValueError: the image has a wrong shape or is of integers.

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
    """Converts labels to booleans, true where a class is present.

    Args:
        labels: integers, one-hot or multi-hot labels.
        classes: the number of classes.
        count: the number of images.
        several: whether an image may show several classes.

    Returns:
        Booleans `(count, classes)`.

    Raises:
        ValueError: there is not one label for each image, labels are invalid, as
            described in `validation.check_labels`, or an image has no class although
            it must have one.

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
    if not (indicators > 0).any(-1).all():
        raise ValueError(
            "Argument `labels` must hold a class for each image. Received no class for "
            f"image {int((indicators > 0).any(-1).argmin())}"
        )
    return np.eye(classes, dtype=bool)[indicators.argmax(-1)]


def names_of(class_names: Sequence[str] | None, classes: int) -> list[str]:
    """Returns the names of classes in a figure, by default their numbers.

    Matplotlib would read text between two `$` as a formula, so they are escaped.

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
    names = validation.check_class_names("class_names", class_names, classes)
    return [name.replace("$", r"\$") for name in names]


def _floats(name, images):
    array = keras.ops.convert_to_numpy(images)
    if not np.issubdtype(array.dtype, np.floating) and array.dtype.name != "bfloat16":
        raise ValueError(
            f"Argument `{name}` must hold floats, scaled as in training, for example "
            f"pixels from 0 to 255 divided by 255. Received: {array.dtype}"
        )
    return array.astype("float32")
