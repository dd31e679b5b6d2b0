from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from matplotlib.figure import Figure

from keras_capsules.plotting.inputs import names_of, one_image
from keras_capsules.plotting.panels import caption, panels, show
from keras_capsules.plotting.traces import check_has_trace, class_trace


def assignments(
    model: keras.Model, image: Any, class_names: Sequence[str] | None = None
) -> Figure:
    """Draws the positions of the children that are assigned to each class capsule.

    The figure has a row for each routing iteration and a column for each class. A
    panel shows the grid of the children: the total weight for the class at each
    position, over all types of capsules. The number below it is the activation of the
    class, or the length of its pose if the routing computes no activations. The first
    panel is the image.

    Args:
        model: a network with `trace` whose class capsules have a grid of children, such
            as `models.CapsNet` or `models.MatrixCapsNet`.
        image: a float image `(height, width, channels)`, or a batch of one, scaled as
            in training.
        class_names: a name for each class; by default its number.

    Returns:
        The figure.

    Raises:
        ValueError: the model has no trace or its class capsules have no grid of
            children, the image has a wrong shape or is of integers, or there is not one
            name for each class.

    Example:

    >>> import numpy as np
    >>> from keras_capsules import models, plotting
    >>> model = models.MatrixCapsNet((20, 20, 1), classes=3, variant=(8, 2, 3, 3))
    >>> figure = plotting.assignments(model, np.random.randn(20, 20, 1))
    >>> len(figure.axes)
    12

    Reference:
        Hinton, Sabour and Frosst, Matrix capsules with EM routing (2018),
        section 3.
    """
    check_has_trace(model)
    image = one_image(image, model.image_shape)
    names = names_of(class_names, model.classes)
    children = model.capsule_layers[-1].get_build_config()["input_shape"]
    # The shape of the poses, or the shapes of poses and activations.
    _, *grid = children[0] if isinstance(children[0], (tuple, list)) else children
    if len(grid) < 4:
        raise ValueError(
            "Argument `model` must have class capsules with a grid of children, "
            "(height, width, types). Received: a network whose class capsules have "
            f"children of shape {tuple(grid)}"
        )
    trace = class_trace(model, image[None])
    weights, activations = (trace[name][:, 0] for name in ("weights", "activations"))
    iterations, classes, _ = weights.shape
    positions = weights.reshape(iterations, classes, *grid[:3]).sum(-1)

    title = "Weight of the children at each position, and activation of each class"
    figure, axes = panels(iterations, 1 + classes, title)
    show(axes[0, 0], (image - image.min()) / max(np.ptp(image), 1e-6))
    for iteration in range(iterations):
        axes[iteration, 0].set_ylabel(f"iteration {iteration + 1}", fontsize=8)
        for label, axis in enumerate(axes[iteration, 1:]):
            axis.imshow(positions[iteration, label], vmin=0.0, vmax=positions.max())
            axis.set_xlabel(f"{activations[iteration, label]:.2f}", fontsize=8)
    for name, axis in zip(names, axes[0, 1:], strict=True):
        axis.set_title(caption(name), fontsize=8)
    return figure
