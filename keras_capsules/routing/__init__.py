"""Routing algorithms: how strongly each child is coupled to each parent."""

import re
from contextlib import suppress
from typing import Any

import keras

from keras_capsules.routing.dynamic_routing import DynamicRouting
from keras_capsules.routing.em_routing import EMRouting
from keras_capsules.routing.generative_routing import GenerativeRouting
from keras_capsules.routing.inverted_attention_routing import InvertedAttentionRouting
from keras_capsules.routing.moment_routing import MomentRouting
from keras_capsules.routing.moments import Moments, Polynomial
from keras_capsules.routing.routing import Routing, RoutingInputs
from keras_capsules.routing.self_attention_routing import SelfAttentionRouting
from keras_capsules.routing.self_routing import SelfRouting
from keras_capsules.routing.uniform_routing import UniformRouting
from keras_capsules.routing.variational_bayes_routing import VariationalBayesRouting

# Names come from the classes: SelfAttentionRouting is "self_attention".
_ROUTINGS = {
    re.sub("(?<=[a-z])(?=[A-Z])", "_", name.removesuffix("Routing")).lower(): found
    for name, found in list(globals().items())
    if name.endswith("Routing") and found not in (Routing, MomentRouting)
}


def names() -> tuple[str, ...]:
    """Returns the names of all routings that `get` and the layers accept.

    Returns:
        The names.

    Example:

    >>> from keras_capsules.routing import names
    >>> "self_attention" in names()
    True
    """
    return tuple(_ROUTINGS)


def get(identifier: Any) -> Routing:
    """Retrieves a routing from a name, an instance or a config.

    Args:
        identifier: one of `names()`, a routing, or a config that
            `keras.saving.serialize_keras_object` returned for a routing.

    Returns:
        The routing.

    Raises:
        ValueError: the name is unknown or the object is not a routing.

    Example:

    >>> from keras_capsules.routing import get
    >>> get("dynamic").iterations
    3
    """
    routing = identifier
    if isinstance(identifier, str) and identifier in _ROUTINGS:
        routing = _ROUTINGS[identifier]()
    elif isinstance(identifier, dict):
        # Keras's error for an unknown class would not name the argument.
        with suppress(TypeError):
            routing = keras.saving.deserialize_keras_object(identifier)
    if not isinstance(routing, Routing):
        # A class that keras.saving does not know yet is the user's own.
        which = " whose module is imported" if isinstance(identifier, dict) else ""
        raise ValueError(
            f"Argument `routing` must be one of {names()}, a routing, or the config of "
            f"one{which}. Received: routing={identifier!r}"
        )
    return routing


__all__ = [
    "MomentRouting",
    "Moments",
    "Polynomial",
    "Routing",
    "RoutingInputs",
    "get",
    "names",
]
__all__ += [routing.__name__ for routing in _ROUTINGS.values()]
