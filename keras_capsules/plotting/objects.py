from typing import Any

import keras
import numpy as np
from matplotlib.figure import Figure

from keras_capsules.plotting.panels import panels, show

_FIRST, _SECOND = np.array([1.0, 0.35, 0.2]), np.array([0.2, 0.65, 1.0])


def objects_apart(model: keras.Model, images: Any, labels: Any) -> Figure:
    """Draws two overlapping objects apart, each in a colour of its own.

    Each of the two longest capsules is decoded alone. The rows show the image,
    the two reconstructions laid over each other in red and blue, and each
    alone.

    Args:
        model: a network with `decode`, such as `models.CapsNet`.
        images: images of two objects, `(n, height, width, channels)`, one a
            column.
        labels: multi-hot labels `(n, classes)`.

    Returns:
        The figure.

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
    images, labels = np.asarray(images, "float32"), np.asarray(labels)
    outputs = model.predict_on_batch(images)
    predictions = np.sort(outputs["scores"].argsort(-1)[:, -2:])
    apart = [
        keras.ops.convert_to_numpy(model.decode(outputs["poses"], predictions[:, k]))
        for k in range(2)
    ]
    first, second = (
        drawn.mean(-1, keepdims=True) * color
        for drawn, color in zip(apart, (_FIRST, _SECOND), strict=True)
    )
    figure, axes = panels(4, len(images), "two digits, drawn apart")
    for column, (classes, present) in enumerate(zip(predictions, labels, strict=True)):
        expected = np.flatnonzero(present)
        color = "black" if np.array_equal(classes, expected) else "red"
        axes[0, column].set_title(f"{expected[0]} and {expected[-1]}", fontsize=8)
        axes[1, column].set_title(
            f"{classes[0]} and {classes[1]}", fontsize=8, color=color
        )
        rows = (images, np.maximum(first, second), first, second)
        for axis, row in zip(axes[:, column], rows, strict=True):
            show(axis, row[column])
    return figure
