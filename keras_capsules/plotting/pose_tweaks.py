from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from matplotlib.figure import Figure

from keras_capsules import validation
from keras_capsules.plotting.inputs import check_has_decoder, names_of, one_image
from keras_capsules.plotting.panels import panels, show


def pose_tweaks(
    model: keras.Model,
    image: Any,
    limit: float = 0.25,
    steps: int = 11,
    class_names: Sequence[str] | None = None,
) -> Figure:
    """Draws reconstructions of an image from changed poses.

    The pose of the class with the highest score is decoded after a change of one of its
    components. The changes range from `-limit` to `limit`. The figure has a row for
    each component of the pose and a column for each change.

    Args:
        model: a network with `decode`, such as `models.CapsNet`.
        image: a float image `(height, width, channels)`, or a batch of one, scaled as
            in training.
        limit: the largest change.
        steps: number of changes, equally spaced.
        class_names: a name for each class; by default its number.

    Returns:
        The figure.

    Raises:
        ValueError: the model has no decoder, the image has a wrong shape or is of
            integers, there is not one name for each class, or `limit` or `steps` is not
            above 0.

    Example:

    >>> import numpy as np
    >>> from keras_capsules import models, plotting
    >>> model = models.CapsNet((16, 16, 1), classes=3, filters=4, kernel_size=5,
    ...                        primary_capsules=2, decoder_units=(8,))
    >>> figure = plotting.pose_tweaks(model, np.zeros((16, 16, 1)))
    >>> len(figure.axes)
    176

    Reference:
        Sabour, Frosst and Hinton, Dynamic routing between capsules (2017),
        figure 4.
    """
    check_has_decoder(model)
    image = one_image(image, model.image_shape)
    names = names_of(class_names, model.classes)
    validation.check_positive("limit", limit)
    validation.check_positive_integer("steps", steps)
    outputs = model.predict_on_batch(image[None])
    label = int(outputs["scores"].argmax())
    poses = outputs["poses"].astype("float32")
    shape = poses.shape[2:]
    poses = poses.reshape(1, model.classes, -1)  # (1, classes, D)
    size = poses.shape[-1]
    changes = np.linspace(-limit, limit, steps)

    tweaked = np.tile(poses, (size, steps, 1, 1))  # (D, steps, classes, D)
    for dimension in range(size):
        tweaked[dimension, :, label, dimension] += changes
    drawn = model.decode(
        tweaked.reshape(-1, model.classes, *shape), np.full(size * steps, label)
    )
    drawn = keras.ops.convert_to_numpy(drawn).reshape(size, steps, *model.image_shape)

    title = (
        f"Reconstructions of {names[label]}; each row changes one number of its pose"
    )
    figure, axes = panels(size, steps, title)
    for dimension in range(size):
        axes[dimension, 0].set_ylabel(dimension, fontsize=8, rotation=0, labelpad=8)
        for step in range(steps):
            show(axes[dimension, step], drawn[dimension, step])
    for axis, change in zip(axes[0], changes, strict=True):
        axis.set_title(f"{change:+.2f}", fontsize=8)
    return figure
