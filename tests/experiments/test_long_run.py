import json
import shutil

import keras
import numpy as np
import pytest
import scripts

from experiments import long_run

SCRIPT = "experiments.long_run"
FLAGS = ("--network", "small", "--batch-size", "16", "--digits", "digits.npz")


@pytest.fixture
def folder(tmp_path):
    """A folder with a file of digits: noise, with bright corners in one class."""
    rng = np.random.default_rng(0)
    labels = (np.arange(64) % 10).astype("uint8")
    images = rng.integers(0, 256, (64, 28, 28, 1)).astype("uint8")
    pairs = rng.integers(0, 256, (32, 36, 36, 1)).astype("uint8")
    both = np.stack([np.arange(32) % 10, (np.arange(32) + 3) % 10], 1)
    arrays = {"digits": images, "digits_labels": labels, "pairs": pairs}
    hot = np.eye(10, dtype="uint8")[both].sum(1)
    np.savez(tmp_path / "digits.npz", **arrays, pairs_labels=hot)
    return tmp_path


def test_it_ends_in_time_and_goes_on_elsewhere(folder):
    flags = (*FLAGS, "--minutes", "0.02", "--output")
    result = scripts.run(folder, SCRIPT, *flags, "run")
    assert result.returncode == 0, result.stderr
    first = json.loads((folder / "run" / "metrics.json").read_text())
    progress = json.loads((folder / "run" / "progress.json").read_text())
    assert first["pairs"] == progress["pairs"] >= 64
    assert first["pairs"] % 64 == 0 and 0.0 <= first["test_error"] <= 1.0

    (folder / "elsewhere").mkdir()
    for path in (folder / "run").glob("*"):
        if path.name != "metrics.json":
            shutil.copy(path, folder / "elsewhere")
    result = scripts.run(folder, SCRIPT, *flags, "elsewhere", "--resume")
    assert result.returncode == 0, result.stderr
    assert f"Going on after {first['pairs']:,} pairs." in result.stdout
    second = json.loads((folder / "elsewhere" / "metrics.json").read_text())
    assert second["pairs"] > first["pairs"] and second["seconds"] > first["seconds"]
    files = {path.name for path in (folder / "elsewhere").glob("weights_*")}
    assert files == {f"weights_{second['pairs']}_0.npz"}

    result = scripts.refused(folder, SCRIPT, *flags, "run")
    assert result.returncode == 2 and "holds a run" in result.stderr
    other = ("--network", "paper", *flags[2:], "run", "--resume")
    result = scripts.refused(folder, SCRIPT, *other)
    assert result.returncode == 2 and "--network small" in result.stderr


def test_weights_are_kept_in_small_files(tmp_path, monkeypatch):
    monkeypatch.setattr(long_run, "LARGEST", 8_000)
    shapes = [keras.layers.Dense(units) for units in (30, 60, 20)]
    model = keras.Sequential([keras.Input((40,)), *shapes])
    weights = model.get_weights()
    long_run.write_weights(model, tmp_path, {"pairs": 5})
    names = json.loads((tmp_path / "progress.json").read_text())["weights"]
    assert len(names) == 3
    assert all((tmp_path / name).stat().st_size <= 8_000 for name in names)
    model.set_weights([np.zeros_like(weight) for weight in weights])
    long_run.read_weights(model, tmp_path, names)
    for found, expected in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-3)

    long_run.write_weights(model, tmp_path, {"pairs": 6})
    assert not any((tmp_path / name).exists() for name in names)


def test_the_learning_rate_rises_and_falls(monkeypatch):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    callback = long_run.Minutes(2.0, 0.1, 10, None, {"pairs": 0, "minutes": 1.0})
    callback.set_model(model)
    monkeypatch.setattr(long_run, "write_weights", lambda *_: None)
    rates = []
    for second in range(0, 121, 12):
        monkeypatch.setattr(long_run.time, "monotonic", lambda at=second: float(at))
        if not second:
            callback.on_train_begin()
        callback.on_epoch_begin(0)
        rates.append(float(model.optimizer.learning_rate))
        callback.on_epoch_end(0, {"loss": 1.0})
        assert model.stop_training == (second == 120)
    assert rates[0] == pytest.approx(0.01) and rates[1] > 0.09
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert rates[5] == pytest.approx(0.05) and rates[-1] == pytest.approx(0.0)
    assert callback.progress == {"pairs": 110, "minutes": 3.0}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--minutes", "0"), "--minutes must be above 0, received 0.0"),
        (("--digits", "missing.npz", "--data-dir", "none"), "can't be made: "),
    ],
)
def test_wrong_flags(tmp_path, monkeypatch, flags, message):
    monkeypatch.setattr(
        "keras_capsules.datasets.mnist",
        lambda _: (_ for _ in ()).throw(FileNotFoundError("no MNIST")),
    )
    result = scripts.refused(tmp_path, SCRIPT, *flags)
    assert result.returncode and message in result.stderr
    assert not any(tmp_path.iterdir())
