"""Scores of a network, and gradients of its loss, for attacks."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_capsules import _backend


def scores(outputs: Any) -> Any:
    """Returns the scores of a network, given its outputs.

    Args:
        outputs: the scores, or a dict that contains `scores`.

    Returns:
        The scores.
    """
    return outputs["scores"] if isinstance(outputs, dict) else outputs


def input_gradient(
    model: keras.Model, images: np.ndarray, labels: np.ndarray, loss: Callable
) -> np.ndarray:
    """Computes the gradient of the summed loss with respect to the images.

    Args:
        model: a network that returns scores, or a dict that contains `scores`.
        images: images in float32.
        labels: labels in a form that the loss accepts.
        loss: a function of labels and scores.

    Returns:
        An array with the shape of the images.
    """
    gradient = _backend.input_gradient(
        model, images, lambda found: keras.ops.sum(loss(labels, found)), scores
    )
    return keras.ops.convert_to_numpy(gradient)
