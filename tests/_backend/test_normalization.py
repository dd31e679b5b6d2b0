import keras
import numpy as np
import pytest
from helpers import close

from keras_capsules._backend import BatchNormalization


def test_the_averages_start_at_the_first_batch():
    layer = BatchNormalization(momentum=0.75)
    first, second = (
        np.random.default_rng(seed).normal(3.0, 0.1, (6, 3)) for seed in (0, 1)
    )
    layer(first, training=True)
    for average, kind in (
        (layer.moving_mean, np.mean),
        (layer.moving_variance, np.var),
    ):
        close(average, kind(first, 0), rtol=1e-3)
    layer(second, training=True)
    for average, kind in (
        (layer.moving_mean, np.mean),
        (layer.moving_variance, np.var),
    ):
        expected = 0.75 * kind(first, 0) + 0.25 * kind(second, 0)
        close(average, expected, rtol=1e-3)


@pytest.mark.parametrize("settings", [{}, {"center": False, "scale": False}])
@pytest.mark.parametrize("training", [True, False])
def test_outputs_are_those_of_keras(settings, training):
    x = np.random.default_rng(0).normal(3.0, 2.0, (6, 4, 3))
    settings = {**settings, "axis": 1, "epsilon": 1e-2}
    ours, theirs = (
        BatchNormalization(**settings),
        keras.layers.BatchNormalization(**settings),
    )
    for _ in range(2):
        close(ours(x, training=training), theirs(x, training=training), atol=1e-5)
    if training:
        ours.trainable = theirs.trainable = False
        theirs.set_weights(ours.get_weights())
        before = ours.get_weights()
        close(ours(x, training=True), theirs(x, training=True), atol=1e-5)
        for x, y in zip(ours.get_weights(), before, strict=True):
            np.testing.assert_array_equal(x, y)


def test_a_batch_of_no_images_leaves_the_averages():
    layer = BatchNormalization(momentum=0.5)
    layer(keras.random.normal((6, 3)), training=True)
    before = [keras.ops.convert_to_numpy(x).copy() for x in layer.weights]
    assert tuple(layer(keras.ops.zeros((0, 3)), training=True).shape) == (0, 3)
    for x, y in zip(layer.weights, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(x), y)


# That devices normalize alike is in tests/backends.
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a strategy of it")
def test_devices_normalize_by_the_batch_of_all(monkeypatch):
    assert not BatchNormalization().synchronized
    monkeypatch.setattr("keras_capsules._backend.normalization.replicas", lambda: 2)
    layer = BatchNormalization(momentum=0.5, epsilon=1e-6)
    assert layer.synchronized and layer.momentum == 0.5
    x = keras.random.normal((6, 3))
    expected = (x - keras.ops.mean(x, 0)) / keras.ops.std(x, 0)
    close(layer(x, training=True), expected, rtol=1e-3, atol=1e-4)
