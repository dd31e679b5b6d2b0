from typing import Any

import keras
import numpy as np
from matplotlib.figure import Figure

from keras_capsules.plotting.panels import panels, show


def pose_tweaks(
    model: keras.Model, image: Any, limit: float = 0.25, steps: int = 11
) -> Figure:
    """Draws what each dimension of a pose stands for.

    The pose of the longest capsule is changed in one dimension at a time, from
    `-limit` to `limit`, and decoded: a row for each dimension.

    Args:
        model: a network with `decode`, such as `models.CapsNet`.
        image: an image `(height, width, channels)`.
        limit: the largest change.
        steps: number of changes, at equal distances.

    Returns:
        The figure.

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
    outputs = model.predict_on_batch(np.asarray(image, "float32")[None])
    label = int(outputs["scores"].argmax())
    poses = outputs["poses"].astype("float32")  # (1, classes, D)
    size = poses.shape[-1]
    changes = np.linspace(-limit, limit, steps)

    tweaked = np.tile(poses, (size, steps, 1, 1))  # (D, steps, classes, D)
    for dimension in range(size):
        tweaked[dimension, :, label, dimension] += changes
    drawn = model.decode(
        tweaked.reshape(-1, *poses.shape[1:]), np.full(size * steps, label)
    )
    drawn = keras.ops.convert_to_numpy(drawn).reshape(size, steps, *model.image_shape)

    figure, axes = panels(size, steps, f"each dimension of the pose of {label}, moved")
    for dimension in range(size):
        axes[dimension, 0].set_ylabel(dimension, fontsize=8, rotation=0, labelpad=8)
        for step in range(steps):
            show(axes[dimension, step], drawn[dimension, step])
    for axis, change in zip(axes[0], changes, strict=True):
        axis.set_title(f"{change:+.2f}", fontsize=8)
    return figure
