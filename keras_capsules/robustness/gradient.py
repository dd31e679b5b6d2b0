"""What an attack asks of a network: its scores, and the slope of its loss."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_capsules import _backend


def scores(outputs: Any) -> Any:
    """The scores among the outputs of a network: the outputs, if they are no dict."""
    return outputs["scores"] if isinstance(outputs, dict) else outputs


def input_gradient(
    model: keras.Model, images: np.ndarray, labels: np.ndarray, loss: Callable
) -> np.ndarray:
    """The gradient of the loss of all images with respect to their pixels.

    Args:
        model: a network that returns scores, alone or in a dict as `scores`.
        images: images in float32.
        labels: labels as the loss takes them.
        loss: a function of labels and scores.

    Returns:
        An array of the shape of the images.
    """
    gradient = _backend.input_gradient(
        model, images, lambda found: keras.ops.sum(loss(labels, found)), scores
    )
    return keras.ops.convert_to_numpy(gradient)
