"""What an attack asks of a network: its scores, and the slope of its loss."""

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np


def scores(outputs: Any) -> Any:
    """The scores among the outputs of a network: the outputs, if they are no dict."""
    return outputs["scores"] if isinstance(outputs, dict) else outputs


def input_gradient(
    model: keras.Model, images: np.ndarray, labels: np.ndarray, loss: Callable
) -> np.ndarray:
    """The gradient of the loss of all images with respect to their pixels.

    Args:
        model: a network that returns scores, alone or in a dict as `scores`.
        images: images in float32.
        labels: labels as the loss takes them.
        loss: a function of labels and scores.

    Returns:
        An array of the shape of the images.
    """
    images = keras.ops.convert_to_tensor(images)
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            total = keras.ops.sum(loss(labels, _compiled_by_tensorflow(model)(images)))
        gradient = tape.gradient(total, images)
    elif backend == "jax":
        import jax

        state = [
            [variable.value for variable in variables]
            for variables in (model.trainable_variables, model.non_trainable_variables)
        ]
        forward = _compiled_by_jax(model)
        gradient = jax.grad(
            lambda images: keras.ops.sum(loss(labels, forward(*state, images)))
        )(images)
    else:
        import torch

        images = images.detach().requires_grad_()
        total = keras.ops.sum(loss(labels, scores(model(images))))
        (gradient,) = torch.autograd.grad(total, images)
    return keras.ops.convert_to_numpy(gradient)


@functools.lru_cache(maxsize=4)
def _compiled_by_tensorflow(model):
    """The scores as a function of the images.

    Without it TensorFlow remembers every operation of a routing, votes too. The loss
    stays outside: a spread loss has a margin that changes.
    """
    import tensorflow as tf

    return tf.function(lambda images: scores(model(images)), reduce_retracing=True)


@functools.lru_cache(maxsize=4)
def _compiled_by_jax(model):
    """The scores as a function of the variables and the images.

    Without it JAX compiles the loops of a routing at every call. The loss stays
    outside, as above.
    """
    import jax

    return jax.jit(lambda *arguments: scores(model.stateless_call(*arguments)[0]))
