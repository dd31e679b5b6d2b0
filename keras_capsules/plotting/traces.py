"""What happens in the class capsules of a network, for the figures of routing."""

import keras
import numpy as np


def class_trace(model: keras.Model, images: np.ndarray) -> dict[str, np.ndarray]:
    """The trace of the routing to the classes.

    Args:
        model: a network with `trace` and `class_capsules`, such as
            `models.MatrixCapsNet`.
        images: images `(n, height, width, channels)`.

    Returns:
        Its arrays, by name; see `routing.EMRouting.trace`.

    Raises:
        ValueError: the model has no trace of class capsules.
    """
    if not (hasattr(model, "trace") and hasattr(model, "class_capsules")):
        raise ValueError(
            "Argument `model` must have `trace` and `class_capsules`, as MatrixCapsNet "
            f"does. Received: {type(model).__name__}"
        )
    trace = model.trace(images)[model.class_capsules.name]
    return {name: keras.ops.convert_to_numpy(value) for name, value in trace.items()}
