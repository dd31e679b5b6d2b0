"""Traces of the routing to the class capsules, for figures."""

import keras
import numpy as np


def class_trace(model: keras.Model, images: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the trace of the routing to the class capsules.

    Args:
        model: a network with `trace` and `capsule_layers`, such as `models.CapsNet`.
        images: images `(n, height, width, channels)`.

    Returns:
        A dict of arrays, see `routing.Routing.trace`. If the routing computes no
        activations, `activations` are the lengths of the poses.

    Raises:
        ValueError: the model has no trace of class capsules.
    """
    check_has_trace(model)
    trace = model.trace(images)[model.capsule_layers[-1].name]
    trace = {name: keras.ops.convert_to_numpy(value) for name, value in trace.items()}
    trace.setdefault("activations", np.linalg.norm(trace["parents"], axis=(-2, -1)))
    return trace


def check_has_trace(model: keras.Model) -> None:
    """Raises an error if a model has no trace of class capsules."""
    if not (hasattr(model, "trace") and hasattr(model, "capsule_layers")):
        raise ValueError(
            "Argument `model` must have `trace` and `capsule_layers`, as CapsNet does. "
            f"Received: {type(model).__name__}"
        )
