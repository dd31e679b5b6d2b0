from types import SimpleNamespace

import keras
import pytest

from keras_capsules import config
from keras_capsules._backend import fused, fused_sums


@pytest.fixture
def enabled(monkeypatch):
    config.set_fused_kernels(True)
    yield monkeypatch
    config.set_fused_kernels(False)


def test_there_are_none_on_a_processor(enabled):
    assert fused_sums("float32") is None


def test_there_are_none_in_float64(enabled):
    enabled.setattr(fused, "_has_a_gpu", lambda: True)
    assert fused_sums("float64") is None


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="needs no Triton")
def test_they_are_those_of_the_backend(enabled):
    enabled.setattr(fused, "_has_a_gpu", lambda: True)
    assert fused_sums("float32").__name__.endswith("pallas_votes")
    config.set_fused_kernels(False)
    assert fused_sums("float32") is None


def test_they_are_on_by_default_where_they_were_measured(monkeypatch):
    monkeypatch.setattr(fused, "_asked", None)
    if keras.backend.backend() != "jax":
        assert not config.fused_kernels()
        return
    import jax

    h100, other = (
        SimpleNamespace(compute_capability=of, platform="gpu") for of in ("9.0", "8.6")
    )
    devices = {"cpu": jax.devices("cpu"), None: [h100]}
    monkeypatch.setattr(jax, "devices", lambda platform=None: devices[platform])
    assert config.fused_kernels() and fused._has_a_gpu()
    with jax.default_device("cpu"):
        assert not config.fused_kernels() and not fused._has_a_gpu()
    devices[None] = [other]
    assert not config.fused_kernels() and fused._has_a_gpu()
