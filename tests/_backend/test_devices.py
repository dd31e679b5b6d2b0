from types import SimpleNamespace

import keras
import pytest

from keras_capsules._backend import accelerator_memory


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
