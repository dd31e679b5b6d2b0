import keras
import pytest

from benchmarks import gpu

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


def test_what_fails_does_not_stop_the_rest(small):
    found = gpu.measure_any(BACKEND, "step", work="no such work", code="kept")
    assert found["error"].startswith("KeyError")


def test_every_row_is_shown(small, capsys):
    tasks = gpu.tasks()
    gpu.report([{**task, "step_ms": 1.5, "round": 0} for task in tasks])
    assert capsys.readouterr().out.count("1.50") == len(tasks)
