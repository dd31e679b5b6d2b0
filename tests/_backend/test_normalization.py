import keras
import numpy as np
import pytest
from helpers import close

from keras_capsules._backend import BatchNormalization


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
