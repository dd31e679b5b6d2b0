"""The one place that knows how each backend differentiates a loop."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops


def fixed_loop(step: Callable, state: Any, times: int) -> Any:
    """Applies `step` to `state` several times, as one loop in the graph.

    Gradients flow through every pass. On TensorFlow it is one `tf.while_loop`,
    which XLA can differentiate because its number of iterations is bounded; on
    JAX it is a `fori_loop`, the only one of its loops with a static trip count
    and therefore with a gradient.

    Args:
        step: function from a state to the next, of the same shape and dtype.
        state: tensor.
        times: how often, an integer.

    Returns:
        The last state.

    Example:

    >>> import keras
    >>> float(fixed_loop(lambda x: 2.0 * x, keras.ops.ones(()), times=3))
    8.0
    """
    if keras.backend.backend() == "jax":
        return ops.fori_loop(0, times, lambda _, state: step(state), state)
    _, state = ops.while_loop(
        lambda index, _: index < times,
        lambda index, state: (index + 1, step(state)),
        (0, state),
        maximum_iterations=times,
    )
    return state
