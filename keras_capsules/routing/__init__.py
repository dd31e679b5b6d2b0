"""Routings: how strongly each child is coupled to each parent."""

from typing import Any

import keras

from keras_capsules.routing.dynamic_routing import DynamicRouting
from keras_capsules.routing.em_routing import EMRouting
from keras_capsules.routing.moment_routing import MomentRouting
from keras_capsules.routing.moments import Moments, Polynomial
from keras_capsules.routing.routing import Routing, RoutingInputs

_NAMES = {"dynamic": DynamicRouting, "em": EMRouting}


def get(identifier: Any) -> Routing:
    """Retrieves a routing from a name, an instance or a config.

    Args:
        identifier: `"dynamic"`, `"em"`, a routing, or the config that
            `keras.saving.serialize_keras_object` made of one.

    Returns:
        The routing.

    Raises:
        ValueError: the name is unknown or the object is no routing.

    Example:

    >>> get("dynamic").iterations
    3
    """
    routing = identifier
    if isinstance(identifier, str) and identifier in _NAMES:
        routing = _NAMES[identifier]()
    elif isinstance(identifier, dict):
        routing = keras.saving.deserialize_keras_object(identifier)
    if not isinstance(routing, Routing):
        raise ValueError(
            f"Argument `routing` must be one of {tuple(_NAMES)}, a routing, or the "
            f"config of one. Received: routing={identifier!r}"
        )
    return routing


__all__ = [
    "DynamicRouting",
    "EMRouting",
    "MomentRouting",
    "Moments",
    "Polynomial",
    "Routing",
    "RoutingInputs",
    "get",
]
