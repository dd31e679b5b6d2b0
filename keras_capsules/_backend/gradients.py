"""Gradients on each backend."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_capsules._backend.programs import not_compiled


def vjp(function: Callable, *inputs: Any) -> tuple[Any, Callable]:
    """Evaluates a function and returns its vector-Jacobian product.

    Args:
        function: function of tensors that returns a tensor or a tuple of tensors.
        *inputs: tensors at which to evaluate the function.

    Returns:
        The outputs of the function, and a function `pull(*upstream)`. `pull` takes the
        gradient of each output and returns a tuple of the gradients of the inputs. The
        gradient of an input that the outputs do not depend on is `None`, or zeros on
        JAX. `pull` can be called once.

    Example:

    >>> import keras
    >>> y, pull = vjp(lambda x: x * x, keras.ops.convert_to_tensor(3.0))
    >>> [float(x) for x in pull(keras.ops.ones(()))]
    [6.0]
    """
    return _VJPS[keras.backend.backend()](function, inputs)


def custom_gradient(
    forward: Callable, backward: Callable, plain: Callable, *inputs: Any
) -> Any:
    """Calls a function with a custom gradient.

    Args:
        forward: function of the inputs. It returns a tensor, and a tuple of tensors
            that are kept for the gradient.
        backward: function of the gradient of that tensor, the tuple and the inputs. It
            returns a tuple of the gradients of the inputs, in their shapes and dtypes.
        plain: function of the inputs that returns the same tensor, made of operations
            that every backend can differentiate any number of times. Second derivatives
            are those of this function.
        *inputs: tensors of floats. The functions must not use other tensors for which
            gradients are computed.

    Returns:
        The tensor that `forward` returns.

    Example:

    >>> import keras
    >>> double = lambda x: (2.0 * x, (x,))
    >>> steep = lambda upstream, kept, x: (5.0 * upstream,)
    >>> plain = lambda x: 2.0 * x
    >>> function = lambda x: custom_gradient(double, steep, plain, x)
    >>> y, pull = vjp(function, keras.ops.ones(()))
    >>> float(y), float(pull(keras.ops.ones(()))[0])
    (2.0, 5.0)
    """
    inputs = tuple(map(ops.convert_to_tensor, inputs))
    return _CUSTOM_GRADIENTS[keras.backend.backend()](forward, backward, plain, inputs)


def or_zeros(gradients: tuple, xs: tuple) -> tuple:
    """Replaces gradients that are `None` with zeros.

    Args:
        gradients: tensors or `None`.
        xs: the inputs that they are the gradients of.

    Returns:
        A tuple of tensors.

    Example:

    >>> import keras
    >>> [float(x) for x in or_zeros((None,), (keras.ops.ones(()),))]
    [0.0]
    """
    pairs = zip(gradients, xs, strict=True)
    return tuple(ops.zeros_like(x) if dx is None else dx for dx, x in pairs)


def gradients(function: Callable) -> Callable:
    """Returns a function that computes outputs and gradients of a function.

    Args:
        function: function of tensors of floats. It returns a scalar and a structure of
            tensors.

    Returns:
        Function of the same inputs. It returns the structure and a tuple of the
        gradients of the scalar with respect to each input, zeros if the scalar does not
        depend on it. On JAX the function is compiled.

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
        found = or_zeros(pull(ops.ones_like(total)), inputs)
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


def _tensorflow_custom_gradient(forward, backward, plain, inputs):
    import tensorflow as tf

    if tf.executing_eagerly():
        forward, backward = _off_the_tape(forward, backward, plain)

    @tf.custom_gradient
    def function(*inputs):
        output, kept = forward(*inputs)

        def gradient(upstream, variables=()):
            if variables:
                names = ", ".join(v.name for v in variables)
                raise ValueError(
                    "A hook of a routing must not use a `tf.Variable` of its own, "
                    "whose gradient is not known. Make weights with `add_weight` in "
                    f"`build`. Received: {names}"
                )
            return backward(upstream, kept, *inputs)

        return output, gradient

    return function(*inputs)


def _off_the_tape(forward, backward, plain):
    """Wraps both functions so that the eager tape does not record their operations.

    The tape would keep all intermediate tensors, among them the votes. It does not
    record operations on tensors from `tf.stop_gradient`.
    """
    import tensorflow as tf

    def forward_off_the_tape(*inputs):
        return forward(*map(tf.stop_gradient, inputs))

    def backward_off_the_tape(upstream, kept, *inputs):
        @tf.custom_gradient
        def slope(*tensors):
            upstream, *inputs = map(tf.stop_gradient, tensors)

            def gradient(*upstream):
                _, pull = vjp(plain_slope, *tensors)
                return or_zeros(pull(*upstream), tensors)

            return backward(upstream, kept, *inputs), gradient

        return slope(upstream, *inputs)

    def plain_slope(upstream, *inputs):
        _, pull = vjp(plain, *inputs)
        return or_zeros(pull(upstream), inputs)

    return forward_off_the_tape, backward_off_the_tape


def _jax_custom_gradient(forward, backward, plain, inputs):
    import jax

    # `backward` is the first derivative only, and JAX can't differentiate kernels for a
    # GPU. Other derivatives are those of `plain`.
    forward = jax.custom_jvp(forward)
    backward = jax.custom_jvp(backward)

    @forward.defjvp
    def forward_jvp(inputs, tangents):
        output, kept = forward(*inputs)
        _, moved = jax.jvp(plain, inputs, tangents)
        return (output, kept), (moved, tuple(map(ops.zeros_like, kept)))

    @backward.defjvp
    def backward_jvp(arguments, tangents):
        def plain_slope(upstream, *inputs):
            return jax.vjp(plain, *inputs)[1](upstream)

        (upstream, _, *inputs), (to_upstream, _, *to_inputs) = arguments, tangents
        primals, tangents = (upstream, *inputs), (to_upstream, *to_inputs)
        return backward(*arguments), jax.jvp(plain_slope, primals, tangents)[1]

    @jax.custom_vjp
    def function(*inputs):
        return forward(*inputs)[0]

    def forward_and_keep(*inputs):
        output, kept = forward(*inputs)
        return output, (kept, inputs)

    def pull(kept_and_inputs, upstream):
        kept, inputs = kept_and_inputs
        return backward(upstream, kept, *inputs)

    function.defvjp(forward_and_keep, pull)
    return function(*inputs)


def _torch_custom_gradient(forward, backward, plain, inputs):
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
            if torch.is_grad_enabled():  # the gradient will be differentiated
                return _torch_slope(plain, upstream, inputs_)
            return backward(upstream, kept, *inputs_)

    return Function.apply(*inputs)


def _torch_slope(plain, upstream, inputs):
    """Computes the gradients of the inputs as a part of the graph."""
    import torch

    # Views, because one input may be computed from another outside of the function.
    views = [x.view_as(x) for x in inputs]
    wanted = [x for x in views if x.requires_grad]
    found = torch.autograd.grad(
        plain(*views), wanted, upstream, create_graph=True, materialize_grads=True
    )
    found = iter(found)
    return tuple(next(found) if x.requires_grad else None for x in views)


_CUSTOM_GRADIENTS = {
    "tensorflow": _tensorflow_custom_gradient,
    "jax": _jax_custom_gradient,
    "torch": _torch_custom_gradient,
}
