"""Operations on Keras models that depend on the backend."""

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np


def seed_generators(layer: keras.layers.Layer) -> list:
    """Returns the generators of random numbers of a layer and its sublayers.

    Example:

    >>> import keras
    >>> len(seed_generators(keras.Sequential([keras.layers.Dropout(0.5)])))
    1
    """
    parts = layer._flatten_layers()
    return [generator for part in parts for generator in part._seed_generators]


def input_gradient(
    model: keras.Model, inputs: Any, loss: Callable, output: Callable
) -> Any:
    """Computes the gradient of a loss with respect to the inputs of a model.

    Args:
        model: a model.
        inputs: tensor that the model is called with.
        loss: function that maps the result of `output` to a scalar.
        output: function of the outputs of the model. Pass the same object at every
            call, since compiled functions are cached by it.

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
    """Compiles the training and test steps of a model again on JAX.

    There the variables of a loss are constants in a compiled step.

    Args:
        model: a compiled model.
    """
    if keras.backend.backend() == "jax":
        model.make_train_function(force=True)
        model.make_test_function(force=True)


def build_training(model: keras.Model, x: Any, y: Any) -> None:
    """Creates the variables of metrics and optimizer before a step is compiled.

    TensorFlow compiles a function twice if the first call creates variables, and Keras
    creates them in the step. With other backends, and with distribution strategies,
    Keras creates them earlier.

    Args:
        model: a model. Nothing is done if it is not compiled.
        x: images, or a `tf.data.Dataset`. For other types nothing is done, since their
            shapes are unknown.
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
    """Raises an error on backends that do not write SavedModels.

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
    """Exports a model as a SavedModel, loads it and returns its outputs.

    Args:
        model: a functional model with a list of inputs.
        path: a folder for the SavedModel.
        inputs: arrays.

    Returns:
        A flat list of outputs, as arrays; `None` on backends that do not write
        SavedModels.
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
    # The compiled function knows the variables by their order, which changes if layers
    # are frozen.
    order = tuple(map(id, model.trainable_variables))
    forward = _compiled_by_jax(model, output, order)
    return jax.grad(lambda inputs: loss(forward(*state, inputs)))(inputs)


def _torch(model, inputs, loss, output):
    import torch

    inputs = inputs.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(output(model(inputs))), inputs)
    return gradient


_BACKENDS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}


@functools.lru_cache(maxsize=4)
def _compiled_by_tensorflow(model, output):
    """Compiles the output as a function of the inputs.

    The loss is not compiled, since the margin of a spread loss changes.
    """
    import tensorflow as tf

    return tf.function(lambda inputs: output(model(inputs)), reduce_retracing=True)


@functools.lru_cache(maxsize=4)
def _compiled_by_jax(model, output, order):
    """Compiles the output as a function of the variables and the inputs.

    The loss is not compiled, as above.
    """
    import jax

    return jax.jit(lambda *arguments: output(model.stateless_call(*arguments)[0]))
