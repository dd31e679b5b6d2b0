"""The one place that knows how each backend differentiates a function."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops


def vjp(function: Callable, *inputs: Any) -> tuple[Any, Callable]:
    """Values of a function and what pulls gradients back through it.

    Args:
        function: function of tensors that returns a tensor or a tuple of them.
        *inputs: where to evaluate it.

    Returns:
        What the function returns, and `pull(*upstream)`, which takes the gradient
        of each returned tensor and returns those of the inputs, a tuple. It can be
        called once.

    Example:

    >>> import keras
    >>> y, pull = vjp(lambda x: x * x, keras.ops.convert_to_tensor(3.0))
    >>> [float(x) for x in pull(keras.ops.ones(()))]
    [6.0]
    """
    return _BACKENDS[keras.backend.backend()](function, inputs)


def _tensorflow(function, inputs):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = function(*inputs)

    def pull(*upstream):
        return tape.gradient(
            keras.tree.flatten(outputs),
            inputs,
            upstream,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )

    return outputs, pull


def _jax(function, inputs):
    import jax

    outputs, pullback = jax.vjp(function, *inputs)

    def pull(*upstream):
        return pullback(keras.tree.pack_sequence_as(outputs, upstream))

    return outputs, pull


def _torch(function, inputs):
    import torch

    leaves = [x.detach().requires_grad_() for x in inputs]
    with torch.enable_grad():
        outputs = function(*leaves)

    def pull(*upstream):
        pairs = zip(keras.tree.flatten(outputs), upstream, strict=True)
        pairs = [(y, dy) for y, dy in pairs if y.requires_grad]
        if not pairs:
            return tuple(map(ops.zeros_like, inputs))
        outputs_, upstream = zip(*pairs, strict=True)
        return torch.autograd.grad(
            outputs_, leaves, upstream, allow_unused=True, materialize_grads=True
        )

    return keras.tree.map_structure(lambda y: y.detach(), outputs), pull


_BACKENDS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
