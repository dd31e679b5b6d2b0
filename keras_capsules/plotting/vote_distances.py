from typing import Any

import keras
import numpy as np
from matplotlib.figure import Figure

from keras_capsules.plotting.inputs import batch_of, present_classes
from keras_capsules.plotting.panels import Picture
from keras_capsules.plotting.traces import check_has_trace, class_trace


def vote_distances(model: keras.Model, images: Any, labels: Any) -> Figure:
    """Draws the distances of the votes for a class capsule, for each iteration.

    The figure has a row for each routing iteration, with two histograms of the
    distances from votes to the pose of the class capsule: for the true class, and the
    average over the other classes. Votes are weighted by the assignments, so the area
    of a histogram is the total weight that a capsule receives from an image. If
    routing works, the capsule of the true class receives more of the near votes with
    each iteration.

    Args:
        model: a network with `trace`, such as `models.CapsNet` or
            `models.MatrixCapsNet`.
        images: float images `(n, height, width, channels)`, scaled as in training.
        labels: integers `(n,)` or one-hot labels `(n, classes)`.

    Returns:
        The figure.

    Raises:
        ValueError: the model has no trace, or images or labels don't match the model.

    Example:

    >>> import numpy as np
    >>> from keras_capsules import models, plotting
    >>> model = models.MatrixCapsNet((20, 20, 1), classes=3, variant=(8, 2, 3, 3))
    >>> images = np.random.randn(4, 20, 20, 1)
    >>> figure = plotting.vote_distances(model, images, [0, 1, 2, 0])
    >>> len(figure.axes)
    3

    Reference:
        Hinton, Sabour and Frosst, Matrix capsules with EM routing (2018),
        figure 2.
    """
    check_has_trace(model)
    images = batch_of(images, model.image_shape)
    there = present_classes(labels, model.classes, len(images), several=False)
    trace = class_trace(model, images)
    weights, distances, activations = (
        trace[name] for name in ("weights", "distances", "activations")
    )  # the iterations, the images and the classes first
    bins = np.linspace(0.0, np.quantile(distances, 0.98), 51)

    iterations = len(weights)
    size = (6, 1.6 * iterations + 0.7)
    figure = Picture(figsize=size, layout="constrained", dpi=120)
    axes = figure.subplots(iterations, 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for iteration, axis in enumerate(axes):
        for chosen, name, color in (
            (there, "true class", "tab:blue"),
            (~there, "another class", "tab:gray"),
        ):
            if not chosen.any():  # a network with one class
                continue
            activation = activations[iteration, chosen].mean()
            axis.hist(
                distances[iteration, chosen].ravel(),
                bins,
                weights=weights[iteration, chosen].ravel() / chosen.sum(),
                alpha=0.6,
                color=color,
                label=f"{name} (mean activation {activation:.2f})",
            )
        axis.set_ylabel(f"iteration {iteration + 1}")
        axis.legend(fontsize=8)
    axes[-1].set_xlabel("distance of a vote from the pose of its class")
    figure.supylabel("weight of the votes", fontsize=10)
    figure.suptitle("Votes for a class, weighted by the assignments", fontsize=10)
    return figure
