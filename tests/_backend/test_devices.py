from types import SimpleNamespace

import keras
import pytest

from keras_capsules._backend import accelerator_memory, keep_gpus_from_tensorflow


def test_a_processor_has_none():
    assert accelerator_memory() is None


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="of a device of JAX")
def test_what_jax_may_use(monkeypatch):
    import jax

    device = SimpleNamespace(
        platform="gpu", memory_stats=lambda: {"bytes_limit": 6 * 10**10}
    )
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    assert accelerator_memory() == 6 * 10**10


def test_tensorflow_leaves_the_gpu_to_another_backend(monkeypatch):
    import tensorflow as tf

    hidden = []

    def set_visible_devices(*arguments):
        hidden.append(arguments)
        raise RuntimeError("it has started already")

    monkeypatch.setattr(tf.config, "set_visible_devices", set_visible_devices)
    keep_gpus_from_tensorflow()
    other = keras.backend.backend() != "tensorflow"
    assert hidden == ([([], "GPU")] if other else [])
