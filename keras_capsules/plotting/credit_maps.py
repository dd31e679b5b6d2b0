from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from matplotlib.figure import Figure

from keras_capsules.plotting.inputs import images_of, names_of, present_classes
from keras_capsules.plotting.panels import caption, panels, show
from keras_capsules.plotting.traces import check_has_trace, class_trace


def credit_maps(
    model: keras.Model,
    images: Any,
    class_names: Sequence[str] | None = None,
    labels: Any = None,
) -> Figure:
    """Draws the positions in images from which the predicted class gets its votes.

    The figure has a column for each image, with the image above and the image with a
    map below. Each map has its own scale. The brightness of a position is the
    contribution of its children to the length of the class pose:
    `Σ_i w_ij V_ij · v_j / |v_j|`, over the capsules i at the position, for the
    predicted class j with the weights w, votes V and pose v of the last iteration.
    Positions with a negative contribution are dark.

    Args:
        model: a network whose class capsules have a grid of vector capsules as
            children, such as `models.CapsuleClassifier` or `models.CapsNet`.
        images: a batch of images, scaled as in training. They can be integers if the
            network scales them itself.
        class_names: a name for each class; by default its number.
        labels: the true classes, integers or one-hot labels. If they are given, the
            figure names them too, in red if the prediction is wrong.

    Returns:
        The figure.

    Raises:
        ValueError: the model has no trace or its class capsules have no grid of
            children, the images have a wrong shape or are of integers, or there is not
            one name for each class or not one label for each image.

    Example:

    >>> import numpy as np
    >>> from keras_capsules import models, plotting
    >>> model = models.CapsNet((16, 16, 1), 3, filters=4, kernel_size=5,
    ...                        primary_capsules=2)
    >>> figure = plotting.credit_maps(model, np.random.rand(2, 16, 16, 1))
    >>> len(figure.axes)
    4
    """
    check_has_trace(model)
    images, originals = images_of(model, images)
    names = names_of(class_names, model.classes)
    scores = keras.ops.convert_to_numpy(model.predict_on_batch(images)["scores"])
    predicted = scores.argmax(-1)
    credit = _credit(model, images, predicted)  # (images, height, width)

    present = None
    if labels is not None:
        present = present_classes(labels, model.classes, len(images), several=False)
    title = "Origin of the votes for the predicted class"
    figure, axes = panels(2, len(images), title)
    for index, (above, below) in enumerate(axes.T):
        image = originals[index] - originals[index].min()
        image = image / max(image.max(), 1e-6)
        for axis in (above, below):
            show(axis, image)
        height, width = model.image_shape[:2]
        below.imshow(
            credit[index],
            cmap="inferno",
            alpha=0.5,
            vmin=0.0,
            vmax=max(credit[index].max(), 1e-6),
            extent=(-0.5, width - 0.5, height - 0.5, -0.5),
            interpolation="bilinear",
        )
        label = predicted[index]
        text = caption(f"{names[label]} {scores[index, label]:.2f}")
        above.set_title(text, fontsize=8)
        if present is not None:
            truth = present[index].argmax()
            text = caption(f"shows {names[truth]}")
            below.set_title(
                text, fontsize=8, color="black" if truth == label else "red"
            )
    return figure


def _credit(model, images, classes):
    layer = model.capsule_layers[-1]
    grid = layer.get_build_config()["input_shape"]
    if isinstance(grid[0], (tuple, list)) or len(grid) != 5:
        raise ValueError(
            "Argument `model` must have class capsules whose children are a grid of "
            f"vector capsules. Received: {type(model).__name__}"
        )
    trace = class_trace(model, images)
    rows = np.arange(len(images))
    weights = trace["weights"][-1][rows, classes]  # (images, children)
    poses = trace["parents"][-1][rows, classes].reshape(len(images), -1)
    children = model.lowest_capsules(model.as_images(images))
    children = keras.ops.convert_to_numpy(keras.ops.cast(children, "float32"))
    children = children.reshape(len(images), -1, grid[-1])  # (images, children, D)
    kernel = keras.ops.convert_to_numpy(keras.ops.cast(layer.kernel, "float32"))
    # Shared matrices are stored once for all children.
    kernel = np.broadcast_to(kernel, (children.shape[1], *kernel.shape[1:]))
    kernel = kernel.swapaxes(0, 1)[classes]  # (images, children, D, R)
    toward = np.einsum("nid,nidr,nr->ni", children, kernel, poses)
    lengths = np.maximum(np.linalg.norm(poses, axis=-1, keepdims=True), 1e-6)
    credit = weights * toward / lengths
    return credit.reshape(len(images), *grid[1:4]).sum(-1)
