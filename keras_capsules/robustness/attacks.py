from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_capsules import validation
from keras_capsules.robustness.gradient import input_gradient, scores


def fgsm(
    model: keras.Model,
    images: Any,
    labels: Any,
    epsilon: float,
    loss: str | Callable | None = None,
    clip: tuple[float, float] | None = (0.0, 1.0),
) -> np.ndarray:
    """Attacks images with the fast gradient sign method (FGSM).

    Each pixel is changed by ε in the direction that increases the loss:
    `x + ε · sign(∂L/∂x)`.

    A pixel whose gradient is zero is not changed. The margin loss and the spread loss
    are exactly zero, with a zero gradient, for every image that is classified with the
    full margin. Such images are not attacked, so a network can seem robust with its own
    loss, but not with another one, such as `robustness.cross_entropy`.

    Args:
        model: a network that returns scores, or a dict that contains `scores`.
        images: a batch of images.
        labels: labels of the images, in a form that the loss accepts.
        epsilon: ε, the change of a pixel, in the units of the pixels.
        loss: the loss that the attack increases, a function of labels and scores, or
            its name. By default it is the loss that the model is compiled with.
        clip: smallest and largest value of a pixel; `None` for images without
            bounds, such as standardised ones.

    Returns:
        The changed images, in float32.

    Raises:
        ValueError: an argument is out of its range, the labels don't match the
            images, or `loss` is `None` and the model is not compiled with one.

    Example:

    >>> import numpy as np
    >>> from keras_capsules import models, robustness
    >>> model = models.BaselineCNN((8, 8, 1), classes=3, filters=(2, 2), units=4)
    >>> model.compile("adam", "sparse_categorical_crossentropy")
    >>> images, labels = np.full((3, 8, 8, 1), 0.5), np.arange(3)
    >>> changed = robustness.fgsm(model, images, labels, epsilon=0.1)
    >>> bool(np.abs(changed - images).max() < 0.1001)
    True

    Reference:
        Goodfellow, Shlens and Szegedy, Explaining and harnessing adversarial
        examples (2015), section 4.
    """
    return bim(model, images, labels, epsilon, 1, None, loss, clip)


def bim(
    model: keras.Model,
    images: Any,
    labels: Any,
    epsilon: float,
    steps: int = 10,
    step_size: float | None = None,
    loss: str | Callable | None = None,
    clip: tuple[float, float] | None = (0.0, 1.0),
) -> np.ndarray:
    """Attacks images with the basic iterative method (BIM).

    The method applies `fgsm` several times with a smaller step, each time to the result
    of the step before. Each pixel stays within ε of its original value.

    Args:
        model: a network that returns scores, or a dict that contains `scores`.
        images: a batch of images.
        labels: labels of the images, in a form that the loss accepts.
        epsilon: ε, the largest change of a pixel, in the units of the pixels.
        steps: number of steps.
        step_size: change of a pixel in one step; `epsilon / steps` by default.
        loss: the loss that the attack increases, as for `fgsm`.
        clip: smallest and largest value of a pixel, as for `fgsm`.

    Returns:
        The changed images, in float32.

    Raises:
        ValueError: `steps` is not a positive integer, `step_size` is negative, or as
            for `fgsm`.

    Example:

    >>> import numpy as np
    >>> from keras_capsules import models, robustness
    >>> model = models.BaselineCNN((8, 8, 1), classes=3, filters=(2, 2), units=4)
    >>> model.compile("adam", "sparse_categorical_crossentropy")
    >>> images, labels = np.full((3, 8, 8, 1), 0.5), np.arange(3)
    >>> changed = robustness.bim(model, images, labels, epsilon=0.1, steps=4)
    >>> bool(np.abs(changed - images).max() < 0.1001)
    True

    Reference:
        Kurakin, Goodfellow and Bengio, Adversarial examples in the physical
        world (2017), section 2.2.
    """
    steps = validation.check_positive_integer("steps", steps)
    epsilon = float(validation.check_at_least("epsilon", epsilon, 0))
    step_size = epsilon / steps if step_size is None else step_size
    step_size = float(validation.check_at_least("step_size", step_size, 0))
    images, labels = np.asarray(images, "float32"), np.asarray(labels)
    low, high = _bounds(images, epsilon, clip)
    _check(model, images, labels)
    loss = _loss(model, loss)
    changed = images
    for _ in range(steps):
        # In float16 the gradient of an image with a large loss may overflow.
        gradient = np.nan_to_num(input_gradient(model, changed, labels, loss))
        changed = np.clip(changed + step_size * np.sign(gradient), low, high)
    return changed


def _bounds(images, epsilon, clip):
    low, high = images - epsilon, images + epsilon
    if clip is None:
        return low, high
    if not clip[0] < clip[1]:
        raise ValueError(
            "Argument `clip` must be the smallest and the largest value of a pixel. "
            f"Received: clip={clip}"
        )
    if images.min() < clip[0] or images.max() > clip[1]:
        raise ValueError(
            "Argument `images` must lie within `clip`, or `clip` must be None. "
            f"Received: values from {images.min()} to {images.max()}, clip={clip}"
        )
    return low.clip(*clip), high.clip(*clip)


def _check(model, images, labels):
    classes = scores(model.compute_output_shape(images.shape))[-1]
    # The label of a single class says whether it is present.
    validation.check_labels(labels, classes, several=classes == 1)
    if len(images) != len(labels):
        raise ValueError(
            "Arguments `images` and `labels` must have the same length. Received: "
            f"{len(images)} and {len(labels)}"
        )


def _loss(model, loss):
    loss = model.loss if loss is None else loss
    if isinstance(loss, dict):
        loss = loss.get("scores")
    if not isinstance(loss, str) and not callable(loss):
        raise ValueError(
            "Argument `loss` must be a function or a name, or the model must be "
            f"compiled with one. Received: loss={loss!r}"
        )
    return keras.losses.get(loss)
