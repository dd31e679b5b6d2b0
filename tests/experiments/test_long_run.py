import json
import shutil
import sys

import keras
import numpy as np
import pytest
import scripts
import tensorflow as tf
from helpers import once

from experiments import long_run
from keras_capsules import datasets, files

SCRIPT = "experiments.long_run"
FLAGS = ("--network", "small", "--batch-size", "16", "--digits", "digits.npz")
SHORT = ("--minutes", "0.02")


@pytest.fixture
def folder(tmp_path):
    """A folder with a file of digits, which are noise."""
    rng = np.random.default_rng(0)
    both = np.stack([np.arange(32) % 10, (np.arange(32) + 3) % 10], axis=1)
    np.savez(
        tmp_path / "digits.npz",
        digits=rng.integers(0, 256, (64, 28, 28, 1), "uint8"),
        digits_labels=(np.arange(64) % 10).astype("uint8"),
        pairs=rng.integers(0, 256, (32, 36, 36, 1), "uint8"),
        pairs_labels=np.eye(10, dtype="uint8")[both].sum(axis=1),
    )
    return tmp_path


def weights_in(folder):
    names = json.loads((folder / "progress.json").read_text())["weights"]
    assert {path.name for path in folder.glob("weights_*")} == set(names)
    return [array for name in names for array in np.load(folder / name).values()]


def test_a_run_goes_on_elsewhere(folder):
    result = scripts.run(folder, SCRIPT, *FLAGS, *SHORT, "--output", "run")
    assert result.returncode == 0, result.stderr
    first = json.loads((folder / "run" / "metrics.json").read_text())
    assert first["pairs"] >= 64 and first["pairs"] % 64 == 0
    assert 0.0 <= first["test_error"] <= 1.0 and first["machine"]["cores"] > 0

    shutil.copytree(folder / "run", folder / "elsewhere")
    # Steps so small that float16 doesn't show them.
    on = (*FLAGS, *SHORT, "--learning-rate", "1e-20", "--resume", "--output")
    result = scripts.run(folder, SCRIPT, *on, "elsewhere")
    assert result.returncode == 0, result.stderr
    assert f"Going on after {first['pairs']:,} pairs." in result.stdout
    second = json.loads((folder / "elsewhere" / "metrics.json").read_text())
    assert second["pairs"] > first["pairs"] and second["seconds"] > first["seconds"]
    assert second["test_error"] == pytest.approx(first["test_error"])
    for before, after in zip(
        weights_in(folder / "run"), weights_in(folder / "elsewhere"), strict=True
    ):
        np.testing.assert_array_equal(before, after)


@once
def test_the_convolutional_network(folder):
    flags = ("--network", "convolutional", *FLAGS[2:], *SHORT, "--output", "run")
    result = scripts.run(folder, SCRIPT, *flags)
    assert result.returncode == 0, result.stderr
    assert json.loads((folder / "run" / "metrics.json").read_text())["pairs"] >= 64


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "run holds a run: add --resume"),
        (("--resume", "--network", "paper"), "--network small, received paper"),
        (("--minutes", "0"), "expected a number above 0, received 0"),
        (("--batch-size", "65", "--resume"), "--batch-size must be at most 64"),
        (("--digits", "progress.json", "--resume"), "--digits progress.json: "),
    ],
)
def test_refusals(folder, flags, message):
    (folder / "run").mkdir()
    (folder / "progress.json").write_text("no digits")
    kept = {"network": "small", "pairs": 64, "minutes": 1.0, "call": 0.0}
    (folder / "run" / "progress.json").write_text(json.dumps(kept))
    result = scripts.refused(folder, SCRIPT, *FLAGS, *flags, "--output", "run")
    assert result.returncode and message in result.stderr
    assert [path.name for path in (folder / "run").iterdir()] == ["progress.json"]


@once
@pytest.mark.parametrize("what", ["progress.json", "weights_64_0.npz"])
def test_a_damaged_run(folder, what):
    run = folder / "run"
    run.mkdir()
    kept = {"network": "small", "pairs": 64, "minutes": 1.0, "call": 0.0}
    kept["weights"] = ["weights_64_0.npz"]
    (run / "progress.json").write_text(json.dumps(kept))
    (run / what).write_text("PK damaged")
    result = scripts.refused(folder, SCRIPT, *FLAGS, "--resume", "--output", "run")
    assert result.returncode == 1 and "Can't go on with run" in result.stderr
    assert (run / what).read_text() == "PK damaged"


def mnist_of(images, labels):
    """Splits like those of MNIST, with few digits."""

    def split(start, stop):
        return tf.data.Dataset.from_tensor_slices(
            (images[start:stop], labels[start:stop])
        )

    return datasets.Splits(split(0, 20), split(20, 30), split(30, 40))


@once
def test_digits_and_pairs_are_kept(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 28, 28, 1)).astype("float32") / 255.0
    labels = (np.arange(40) % 10).astype("int32")
    splits = mnist_of(images, labels)
    monkeypatch.setattr(datasets, "mnist", lambda data_dir: splits)
    module = sys.modules["keras_capsules.datasets.multi_mnist"]
    monkeypatch.setattr(module, "mnist", lambda data_dir: splits)
    long_run.write_digits(tmp_path / "new" / "digits.npz", None)
    (digits, classes), pairs = long_run.read_digits(tmp_path / "new" / "digits.npz")
    np.testing.assert_array_equal(digits, images[:30])
    np.testing.assert_array_equal(classes, labels[:30])
    expected = datasets.multi_mnist().test.batch(99).get_single_element()
    for found, wanted in zip(pairs, expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert classes.dtype == "int32" and pairs[1].dtype == "float32"


def small_network():
    dense = [keras.layers.Dense(units) for units in (30, 60, 20)]
    return keras.Sequential([keras.Input((40,)), *dense])


def test_weights_are_kept_in_small_files(tmp_path, monkeypatch):
    monkeypatch.setattr(long_run, "LARGEST_FILE", 10_000)
    model = small_network()
    weights = model.get_weights()
    long_run.write_weights(model, tmp_path, {"pairs": 5})
    paths = list(tmp_path.glob("weights_*"))
    assert len(paths) > 1
    assert all(path.stat().st_size <= 10_000 for path in paths)
    model.set_weights([np.zeros_like(weight) for weight in weights])
    long_run.read_weights(model, tmp_path)
    for found, expected in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-3)
    long_run.write_weights(model, tmp_path, {"pairs": 6})
    assert not any(path.exists() for path in paths)


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    model = small_network()
    long_run.write_weights(model, tmp_path, {"pairs": 5})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    weights = model.get_weights()
    weights[-1][3] = 1e5  # above the largest number of float16
    model.set_weights(weights)
    with pytest.raises(ValueError, match="After 6 pairs the weights are not finite"):
        long_run.write_weights(model, tmp_path, {"pairs": 6})
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_the_learning_rate_rises_and_falls(tmp_path, monkeypatch):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    progress = {"pairs": 0, "minutes": 1.0, "call": 0.0}
    clock = long_run.Clock(2.0, 0.1, 10, tmp_path, progress)
    clock.set_model(model)
    rates, now = [], 0.0
    monkeypatch.setattr(long_run.time, "monotonic", lambda: now)
    clock.on_train_begin()
    for epoch in range(8):
        clock.on_epoch_begin(epoch)
        rates.append(float(model.optimizer.learning_rate))
        now += 15.0
        clock.on_epoch_end(epoch, {"loss": 1.0})
        assert model.stop_training == (epoch == 7)
        if epoch == 5:  # it has been written after more than a minute
            kept = json.loads((tmp_path / "progress.json").read_text())
            assert kept["call"] == 1.25 and kept["pairs"] == 50
    assert rates[0] == pytest.approx(0.01) and rates[1] > 0.09
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert rates[4] == pytest.approx(0.05) and rates[7] < 0.01
    assert progress.pop("weights") == ["weights_80_0.npz"]
    assert progress == {"pairs": 80, "minutes": 3.0, "call": 2.0}


@once
def test_an_interrupted_test_is_made_up_for(folder):
    flags = (*FLAGS, *SHORT, "--output", "run")
    end = "import keras; keras.Model.evaluate = lambda *args, **kwargs: sys.exit(130)"
    assert scripts.run(folder, SCRIPT, *flags, before=end).returncode == 130
    before = json.loads((folder / "run" / "progress.json").read_text())
    result = scripts.run(folder, SCRIPT, *flags, "--resume")
    assert result.returncode == 0, result.stderr
    found = json.loads((folder / "run" / "metrics.json").read_text())
    assert found["pairs"] == before["pairs"]
    after = json.loads((folder / "run" / "progress.json").read_text())
    assert after == {**before, "call": 0.0}


@once
def test_two_processes_do_not_train_in_one_folder(folder):
    (folder / "run").mkdir()
    kept = {"network": "small", "pairs": 64, "minutes": 1.0, "call": 0.0}
    (folder / "run" / "progress.json").write_text(json.dumps(kept))
    with files.locked(folder / "run"):
        result = scripts.refused(folder, SCRIPT, *FLAGS, "--resume", "--output", "run")
    assert result.returncode == 1 and "Another process trains in" in result.stderr
    assert json.loads((folder / "run" / "progress.json").read_text()) == kept
