from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from matplotlib.figure import Figure

from keras_capsules.plotting.inputs import (
    check_has_decoder,
    images_of,
    names_of,
    present_classes,
)
from keras_capsules.plotting.panels import caption, panels, show

_FIRST, _SECOND = np.array([1.0, 0.35, 0.2]), np.array([0.2, 0.65, 1.0])


def objects_apart(
    model: keras.Model,
    images: Any,
    labels: Any,
    class_names: Sequence[str] | None = None,
) -> Figure:
    """Draws separate reconstructions of two overlapping objects.

    The two capsules with the highest scores are decoded separately. The figure has a
    column for each image. Its rows show the image, the two reconstructions together,
    in red and blue, and each reconstruction alone. If the labels contain the image of
    each object, the first row also uses the two colours. The predicted classes are red
    if they are wrong.

    Args:
        model: a network with `decode`, such as `models.CapsNet`.
        images: float images of two objects, `(n, height, width, channels)`, scaled as
            in training.
        labels: multi-hot labels `(n, classes)`, or a dict of the multi-hot labels,
            `scores`, and the images of the objects, `images`
            `(n, 2, height, width, channels)`, as in `datasets.multi_mnist`.
        class_names: a name for each class; by default its number.

    Returns:
        The figure.

    Raises:
        ValueError: the model has no decoder or fewer than two classes, images or
            labels don't match the model, or there is not one name for each class.

    Example:

    >>> import numpy as np
    >>> from keras_capsules import models, plotting
    >>> model = models.CapsNet((16, 16, 1), classes=3, filters=4, kernel_size=5,
    ...                        primary_capsules=2, decoder_units=(8,), objects=2)
    >>> figure = plotting.objects_apart(model, np.zeros((1, 16, 16, 1)), [[1, 1, 0]])
    >>> len(figure.axes)
    4

    Reference:
        Sabour, Frosst and Hinton, Dynamic routing between capsules (2017),
        figure 5.
    """
    check_has_decoder(model)
    if model.classes < 2:
        raise ValueError(
            "Argument `model` must have two classes or more. "
            f"Received: {model.classes} class"
        )
    images, originals = images_of(model, images)
    if isinstance(labels, dict):
        if labels.get("images") is not None:
            originals = np.maximum(*_colored(_alone(model, images, labels["images"])))
        labels = labels["scores"]
    present = present_classes(labels, model.classes, len(images))
    names = names_of(class_names, model.classes)
    outputs = model.predict_on_batch(images)
    predictions = np.sort(outputs["scores"].argsort(-1)[:, -2:])
    apart = [
        keras.ops.convert_to_numpy(model.decode(outputs["poses"], predictions[:, k]))
        for k in range(2)
    ]
    first, second = _colored(apart)
    figure, axes = panels(4, len(images), "Two objects, reconstructed separately")
    for column, classes in enumerate(predictions):
        expected = np.flatnonzero(present[column])
        color = "black" if np.array_equal(classes, expected) else "red"
        there, found = (
            caption(" and ".join(names[label] for label in shown))
            for shown in (expected, classes)
        )
        axes[0, column].set_title(there, fontsize=8)
        axes[1, column].set_title(found, fontsize=8, color=color)
        rows = (originals, np.maximum(first, second), first, second)
        for axis, row in zip(axes[:, column], rows, strict=True):
            show(axis, row[column])
    return figure


def _alone(model, images, own_images):
    """Returns the images of the first objects and of the second, as they are drawn."""
    own_images = keras.ops.convert_to_numpy(own_images)
    expected = len(images), 2, *model.image_shape
    if own_images.shape != expected:
        raise ValueError(
            f"Argument `labels` must hold `images` of shape {expected}. "
            f"Received: shape {own_images.shape}"
        )
    return [images_of(model, own_images[:, index])[1] for index in range(2)]


def _colored(pair):
    """Colours the images of two objects, each `(n, height, width, channels)`."""
    return [
        images.mean(-1, keepdims=True) * color
        for images, color in zip(pair, (_FIRST, _SECOND), strict=True)
    ]
