"""Gradients on each backend."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_capsules._backend.programs import not_compiled


def vjp(function: Callable, *inputs: Any) -> tuple[Any, Callable]:
    """Values of a function and what pulls gradients back through it.

    Args:
        function: function of tensors that returns a tensor or a tuple of them.
        *inputs: where to evaluate it.

    Returns:
        What the function returns, and `pull(*upstream)`, which takes the gradient
        of each returned tensor and returns those of the inputs, a tuple. The gradient
        of an input that has no part is `None`, or zeros on JAX. It can be called once.

    Example:

    >>> import keras
    >>> y, pull = vjp(lambda x: x * x, keras.ops.convert_to_tensor(3.0))
    >>> [float(x) for x in pull(keras.ops.ones(()))]
    [6.0]
    """
    return _VJPS[keras.backend.backend()](function, inputs)


def custom_gradient(forward: Callable, backward: Callable, *inputs: Any) -> Any:
    """Calls a function whose gradient is another function.

    Args:
        forward: function of the inputs. It returns a tensor, and a tuple of tensors
            that are kept for the gradient.
        backward: function of the gradient of the tensor, the tuple and the inputs. It
            returns the gradient of each input, a tuple of tensors in their shapes and
            dtypes.
        *inputs: tensors of floats. Neither function may use other tensors that a
            gradient is asked for.

    Returns:
        The tensor that `forward` returns.

    Example:

    >>> import keras
    >>> double = lambda x: (2.0 * x, (x,))
    >>> steep = lambda upstream, kept, x: (5.0 * upstream,)
    >>> y, pull = vjp(lambda x: custom_gradient(double, steep, x), keras.ops.ones(()))
    >>> float(y), float(pull(keras.ops.ones(()))[0])
    (2.0, 5.0)
    """
    inputs = tuple(map(ops.convert_to_tensor, inputs))
    return _CUSTOM_GRADIENTS[keras.backend.backend()](forward, backward, inputs)


def gradients(function: Callable) -> Callable:
    """A function of the same inputs that returns outputs and gradients.

    Args:
        function: function of tensors of floats. It returns a scalar and a structure of
            tensors.

    Returns:
        Function that returns the structure, and a tuple of the gradients of the scalar
        for each input, zeros for one that has no part. On JAX it is compiled.

    Example:

    >>> import keras
    >>> square = gradients(lambda x: (keras.ops.sum(x * x), x + 1.0))
    >>> y, (gradient,) = square(keras.ops.convert_to_tensor(3.0))
    >>> float(y), float(gradient)
    (4.0, 6.0)
    """
    if keras.backend.backend() == "jax":
        return _jax_gradients(function)

    def differentiated(*inputs):
        inputs, outputs = tuple(map(ops.convert_to_tensor, inputs)), []

        def scalar(*inputs):
            total, others = function(*inputs)
            outputs.append(others)
            return total

        total, pull = vjp(scalar, *inputs)
        found = zip(pull(ops.ones_like(total)), inputs, strict=True)
        found = tuple(ops.zeros_like(x) if dx is None else dx for dx, x in found)
        return keras.tree.map_structure(ops.stop_gradient, outputs[0]), found

    return differentiated


def _jax_gradients(function):
    import jax

    @jax.jit
    def differentiated(*inputs):
        numbers = tuple(range(len(inputs)))
        gradient = jax.value_and_grad(function, numbers, has_aux=True)
        (_, outputs), found = gradient(*inputs)
        return outputs, found

    return differentiated


def _tensorflow_vjp(function, inputs):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = function(*inputs)

    def pull(*upstream):
        return tuple(tape.gradient(keras.tree.flatten(outputs), inputs, upstream))

    return outputs, pull


def _jax_vjp(function, inputs):
    import jax

    outputs, pullback = jax.vjp(function, *inputs)

    def pull(*upstream):
        return pullback(keras.tree.pack_sequence_as(outputs, upstream))

    return outputs, pull


def _torch_vjp(function, inputs):
    import torch

    leaves = [x.detach().requires_grad_() for x in inputs]
    with torch.enable_grad():
        outputs = function(*leaves)

    def pull(*upstream):
        pairs = zip(keras.tree.flatten(outputs), upstream, strict=True)
        pairs = [(y, dy) for y, dy in pairs if y.requires_grad]
        if not pairs:
            return (None,) * len(inputs)
        connected, upstream = zip(*pairs, strict=True)
        return torch.autograd.grad(connected, leaves, upstream, allow_unused=True)

    return keras.tree.map_structure(lambda y: y.detach(), outputs), pull


_VJPS = {"tensorflow": _tensorflow_vjp, "jax": _jax_vjp, "torch": _torch_vjp}


def _tensorflow_custom_gradient(forward, backward, inputs):
    import tensorflow as tf

    @tf.custom_gradient
    def function(*inputs):
        output, kept = forward(*inputs)
        return output, lambda upstream: backward(upstream, kept, *inputs)

    return function(*inputs)


def _jax_custom_gradient(forward, backward, inputs):
    import jax

    @jax.custom_vjp
    def function(*inputs):
        return forward(*inputs)[0]

    def forward_and_keep(*inputs):
        output, kept = forward(*inputs)
        return output, (tuple(kept), inputs)

    def pull(kept_and_inputs, upstream):
        kept, inputs = kept_and_inputs
        return backward(upstream, kept, *inputs)

    function.defvjp(forward_and_keep, pull)
    return function(*inputs)


def _torch_custom_gradient(forward, backward, inputs):
    import torch

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *inputs):
            output, kept = forward(*inputs)
            ctx.save_for_backward(*kept, *inputs)
            return output

        @staticmethod
        @not_compiled
        def backward(ctx, upstream):
            saved = ctx.saved_tensors
            kept, inputs_ = saved[: -len(inputs)], saved[-len(inputs) :]
            with torch.no_grad():
                found = backward(upstream, kept, *inputs_)
            if not torch.is_grad_enabled():
                return found
            # In a graph of gradients this part would silently be missing.
            return Once.apply(*(x.detach().requires_grad_() for x in found))

    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *gradients):
            return tuple(x.clone() for x in gradients)

        @staticmethod
        def backward(ctx, *upstream):
            raise RuntimeError(
                "The gradient of a routing can't be differentiated again on PyTorch: a "
                "second derivative, as a gradient penalty needs it, was asked for. Use "
                "TensorFlow or JAX."
            )

    return Function.apply(*inputs)


_CUSTOM_GRADIENTS = {
    "tensorflow": _tensorflow_custom_gradient,
    "jax": _jax_custom_gradient,
    "torch": _torch_custom_gradient,
}
