from typing import Any

import keras
import numpy as np
from matplotlib.figure import Figure

from keras_capsules.plotting.panels import panels, show


def reconstructions(model: keras.Model, images: Any, labels: Any) -> Figure:
    """Draws images over what the network's decoder makes of them.

    Above each image stands its label, above each reconstruction the class that
    was predicted; a wrong one in red.

    Args:
        model: a network with `decode`, such as `models.CapsNet`.
        images: images `(n, height, width, channels)`, one a column.
        labels: integers `(n,)`.

    Returns:
        The figure.

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
    images, labels = np.asarray(images, "float32"), np.asarray(labels)
    outputs = model.predict_on_batch(images)
    predictions = outputs["scores"].argmax(-1)
    drawn = keras.ops.convert_to_numpy(model.decode(outputs["poses"], predictions))
    figure, axes = panels(2, len(images), "originals over reconstructions")
    for column, (label, prediction) in enumerate(zip(labels, predictions, strict=True)):
        show(axes[0, column], images[column])
        show(axes[1, column], drawn[column])
        color = "black" if label == prediction else "red"
        axes[0, column].set_title(f"label {label}", fontsize=8)
        axes[1, column].set_title(f"predicted {prediction}", fontsize=8, color=color)
    return figure
