import keras
import numpy as np
import pytest
from helpers import close

from keras_capsules._backend import input_gradient, recompile, run_exported


def dense(kernel):
    layer = keras.layers.Dense(kernel.shape[1], use_bias=False)
    model = keras.Sequential([keras.Input((kernel.shape[0],)), layer])
    layer.set_weights([kernel])
    return model


def as_it_is(outputs):
    return outputs


def squares(outputs):
    return keras.ops.sum(keras.ops.square(outputs))


def test_gradient_of_the_inputs():
    rng = np.random.default_rng(0)
    kernel, x = rng.normal(size=(4, 3)), rng.normal(size=(5, 4))
    kernel, x = kernel.astype("float32"), x.astype("float32")
    found = input_gradient(dense(kernel), x, squares, as_it_is)
    close(found, 2.0 * x @ kernel @ kernel.T, atol=1e-5)


def test_the_next_step_knows_a_loss_that_changed():
    model, factor = dense(np.ones((1, 1), "float32")), [1.0]
    model.compile(loss=lambda y, p: factor[0] * keras.ops.mean(p), optimizer="sgd")
    x = np.ones((2, 1), "float32")
    assert model.test_on_batch(x, x) == pytest.approx(1.0)
    factor[0] = 3.0
    recompile(model)
    if keras.backend.backend() == "jax":
        assert model.test_on_batch(x, x) == pytest.approx(3.0)


def test_an_exported_model_returns_the_same(tmp_path):
    one, two = keras.Input((3,)), keras.Input((3,))
    model = keras.Model([one, two], [keras.layers.Add()([one, two]), one])
    arrays = [np.full((2, 3), x, "float32") for x in (1.0, 2.0)]
    found = run_exported(model, tmp_path / "exported", arrays)
    if keras.backend.backend() != "tensorflow":
        assert found is None
        return
    close(found[0], np.full((2, 3), 3.0))
    close(found[1], arrays[0])


def test_gradient_after_another_layer_is_frozen():
    layers = [
        keras.layers.Dense(3, use_bias=False, kernel_initializer=x)
        for x in ("ones", "he_normal")
    ]
    model = keras.Sequential([keras.Input((3,)), *layers])
    x = np.ones((2, 3), "float32")
    for frozen, other in (layers, layers[::-1]):
        frozen.trainable, other.trainable = False, True
        first, second = (layer.get_weights()[0] for layer in layers)
        found = input_gradient(model, x, squares, as_it_is)
        close(found, 2.0 * x @ first @ second @ second.T @ first.T, rtol=1e-3)
