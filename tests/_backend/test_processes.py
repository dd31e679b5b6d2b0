import keras
import pytest
from helpers import close

from keras_capsules._backend import batch_normalization, is_first_process


def test_a_process_alone_is_the_first():
    assert is_first_process()


# That devices normalize alike is in tests/backends.
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a strategy of it")
def test_devices_normalize_by_the_batch_of_all(monkeypatch):
    assert not batch_normalization().synchronized
    monkeypatch.setattr("keras_capsules._backend.processes.replicas", lambda: 2)
    layer = batch_normalization(momentum=0.5, epsilon=1e-6)
    assert layer.synchronized and layer.momentum == 0.5
    x = keras.random.normal((6, 3))
    expected = (x - keras.ops.mean(x, 0)) / keras.ops.std(x, 0)
    close(layer(x, training=True), expected, rtol=1e-3, atol=1e-4)
