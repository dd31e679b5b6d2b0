import keras
import pytest

from benchmarks import gpu
from keras_capsules import losses, models

BACKEND = keras.backend.backend()
if BACKEND == "tensorflow":
    pytest.skip("it measures JAX and PyTorch", allow_module_level=True)


@pytest.fixture
def small(monkeypatch):
    steps = {
        "digit capsules": (2, 6, 3, 1, 4, 5),
        "EM": (2, (5, 5, 2), 3, 4, 4, 4),
    }
    monkeypatch.setattr(gpu, "STEPS", steps)
    monkeypatch.setattr(gpu, "FITS", {"CapsNet": ((28, 28, 1), 2)})
    monkeypatch.setattr(gpu, "STEPS_OF_FIT", 4)


@pytest.mark.parametrize("work", ["digit capsules", "EM"])
@pytest.mark.parametrize("code", ["plain", "kept"])
def test_steps(work, code, small):
    found = gpu.measure_step(BACKEND, work, code)
    assert found["forward_ms"] > 0.0 and found["step_ms"] > 0.0


def test_fits_and_convolutions(small, monkeypatch):
    monkeypatch.setattr(gpu, "CONVOLUTIONS", ((2, 9, 9, 2),))
    model = models.CapsNet((36, 36, 1), 5, 2, 9, 2, decoder_units=None, objects=2)
    monkeypatch.setattr(
        gpu, "network_and_loss", lambda *_: (model, losses.MarginLoss())
    )
    found = gpu.measure_any(BACKEND, "convolution")
    assert len(found["convolution_ms"]) == 4
    task = {"precision": "float32", "code": "kept", "how": "images on the device"}
    monkeypatch.setattr(gpu, "FITS", {"CapsNet, pairs": ((36, 36, 1), 2)})
    found = gpu.measure_any(BACKEND, "fit", network="CapsNet, pairs", **task)
    assert found["images_per_second"] > 0.0


def test_what_fails_does_not_stop_the_rest(small):
    found = gpu.measure_any(BACKEND, "step", work="no such work", code="kept")
    assert found["error"].startswith("KeyError")


def test_every_row_is_shown(small, capsys):
    tasks = gpu.tasks()
    gpu.report([{**task, "step_ms": 1.5, "round": 0} for task in tasks])
    assert capsys.readouterr().out.count("1.50") == len(tasks)
