from collections.abc import Sequence
from typing import Any

import keras
from matplotlib.figure import Figure

from keras_capsules.plotting.inputs import (
    check_has_decoder,
    images_of,
    names_of,
    present_classes,
)
from keras_capsules.plotting.panels import caption, panels, show


def reconstructions(
    model: keras.Model,
    images: Any,
    labels: Any,
    class_names: Sequence[str] | None = None,
) -> Figure:
    """Draws images and their reconstructions.

    The figure has a column for each image, with its label and the image above, and the
    predicted class and the reconstruction below. A wrong prediction is red.

    Args:
        model: a network with `decode`, such as `models.CapsNet`.
        images: float images `(n, height, width, channels)`, scaled as in training.
        labels: integers `(n,)` or one-hot labels `(n, classes)`.
        class_names: a name for each class; by default its number.

    Returns:
        The figure.

    Raises:
        ValueError: the model has no decoder, images or labels don't match the model,
            or there is not one name for each class.

    Example:

    >>> import numpy as np
    >>> from keras_capsules import models, plotting
    >>> model = models.CapsNet((16, 16, 1), classes=3, filters=4, kernel_size=5,
    ...                        primary_capsules=2, decoder_units=(8,))
    >>> figure = plotting.reconstructions(model, np.zeros((4, 16, 16, 1)), [0, 1, 2, 0])
    >>> len(figure.axes)
    8

    Reference:
        Sabour, Frosst and Hinton, Dynamic routing between capsules (2017),
        figure 3.
    """
    check_has_decoder(model)
    images, originals = images_of(model, images)
    present = present_classes(labels, model.classes, len(images), several=False)
    names = names_of(class_names, model.classes)
    outputs = model.predict_on_batch(images)
    predictions = outputs["scores"].argmax(-1)
    drawn = keras.ops.convert_to_numpy(model.decode(outputs["poses"], predictions))
    figure, axes = panels(2, len(images), "originals over reconstructions")
    for column, prediction in enumerate(predictions):
        label = present[column].argmax()
        show(axes[0, column], originals[column])
        show(axes[1, column], drawn[column])
        color = "black" if label == prediction else "red"
        axes[0, column].set_title(caption(f"label {names[label]}"), fontsize=8)
        predicted = caption(f"predicted {names[prediction]}")
        axes[1, column].set_title(predicted, fontsize=8, color=color)
    return figure
