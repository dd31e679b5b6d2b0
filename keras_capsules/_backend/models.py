"""What is asked of a Keras model differently on each backend."""

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np


def input_gradient(
    model: keras.Model, inputs: Any, loss: Callable, output: Callable
) -> Any:
    """The gradient of a loss with respect to the inputs of a model.

    Args:
        model: a model.
        inputs: tensor that the model is called with.
        loss: function of what `output` returns; it returns a scalar.
        output: function of the outputs of the model. It has to be the same object at
            every call: what is compiled is kept by it.

    Returns:
        Tensor of the shape of the inputs.

    Example:

    >>> import keras
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Rescaling(3.0)])
    >>> float(input_gradient(model, keras.ops.ones((1, 1)), keras.ops.sum, abs)[0, 0])
    3.0
    """
    gradient = _BACKENDS[keras.backend.backend()]
    return gradient(model, keras.ops.convert_to_tensor(inputs), loss, output)


def recompile(model: keras.Model) -> None:
    """Has JAX compile the steps of a model anew.

    The variables of a loss are constants in a compiled step there.

    Args:
        model: a compiled model.
    """
    if keras.backend.backend() == "jax":
        model.make_train_function(force=True)
        model.make_test_function(force=True)


def build_training(model: keras.Model, x: Any, y: Any) -> None:
    """Makes the variables of metrics and of the optimizer before a step is compiled.

    TensorFlow compiles a function twice if variables are made the first time, and Keras
    leaves it to the step to make them. With other backends, and for devices that train
    together, Keras makes them before.

    Args:
        model: a compiled model.
        x: images, or a `tf.data.Dataset`; of anything else nothing is known yet.
        y: labels, or `None`.
    """
    if keras.backend.backend() != "tensorflow" or not model.compiled:
        return
    import tensorflow as tf

    if model.run_eagerly or tf.config.functions_run_eagerly():
        return
    default = tf.distribute.get_strategy()
    if tf.distribute.has_strategy() or model.distribute_strategy is not default:
        return
    batch = x.element_spec if isinstance(x, tf.data.Dataset) else (x, y)
    known = np.ndarray, tf.Tensor, tf.TensorSpec
    for part in keras.tree.flatten(batch):
        if not isinstance(part, known) or tf.TensorShape(part.shape).rank is None:
            return
    model._symbolic_build(data_batch=batch)


def check_writes_saved_models() -> None:
    """Raises an error on backends that write no SavedModels.

    Raises:
        RuntimeError: Keras runs on another backend than TensorFlow.
    """
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise RuntimeError(
            f"Only TensorFlow exports networks. Keras runs on {backend}: save the "
            "model, set KERAS_BACKEND=tensorflow and load it again."
        )


def run_exported(model: keras.Model, path: Any, inputs: list) -> list | None:
    """What a model returns after it was exported as a SavedModel and loaded.

    Args:
        model: a functional model with a list of inputs.
        path: a folder for the SavedModel.
        inputs: arrays.

    Returns:
        Its outputs, flat, as arrays; `None` on backends that write no SavedModels.
    """
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    model.export(path, "tf_saved_model", verbose=False)
    loaded = tf.saved_model.load(str(path))
    outputs = loaded.serve(inputs)
    return [x.numpy() for x in keras.tree.flatten(outputs)]


def _tensorflow(model, inputs, loss, output):
    import tensorflow as tf

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(inputs)
        total = loss(_compiled_by_tensorflow(model, output)(inputs))
    return tape.gradient(total, inputs)


def _jax(model, inputs, loss, output):
    import jax

    state = [
        [variable.value for variable in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables)
    ]
    forward = _compiled_by_jax(model, output)
    return jax.grad(lambda inputs: loss(forward(*state, inputs)))(inputs)


def _torch(model, inputs, loss, output):
    import torch

    inputs = inputs.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(output(model(inputs))), inputs)
    return gradient


_BACKENDS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}


@functools.lru_cache(maxsize=4)
def _compiled_by_tensorflow(model, output):
    """The output as a function of the inputs.

    The loss stays outside: a spread loss has a margin that changes.
    """
    import tensorflow as tf

    return tf.function(lambda inputs: output(model(inputs)), reduce_retracing=True)


@functools.lru_cache(maxsize=4)
def _compiled_by_jax(model, output):
    """The output as a function of the variables and the inputs.

    The loss stays outside, as above.
    """
    import jax

    return jax.jit(lambda *arguments: output(model.stateless_call(*arguments)[0]))
