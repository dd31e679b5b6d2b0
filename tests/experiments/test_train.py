import csv
import json

import keras
import pytest
import scripts
from helpers import once

from keras_capsules.callbacks import Checkpoint

SCRIPT = "experiments.train"
SMALL = ("capsnet", "--limit", "64", "--batch-size", "16", "--output", "run")


@once
def test_a_whole_run_that_is_killed_and_resumed(tmp_path):
    settings = ("--precision", "mixed_float16", "--learning-rate", "0.002")
    flags = (*SMALL, *settings, "--iterations", "2", "--seed", "5")
    long = scripts.command(SCRIPT, *flags, "--epochs", "99")
    with scripts.started(tmp_path, long) as (process,):
        while "Epoch 3/99" not in (line := process.stdout.readline()):
            assert line, process.communicate()
    folder = tmp_path / "run"
    done = len(Checkpoint.history_of(folder))
    assert done >= 2
    killed = keras.saving.load_model(folder / "last.keras")
    assert int(killed.optimizer.iterations) == 4 * done  # epochs of 4 batches

    epochs = ("--epochs", str(done + 1))
    result = scripts.run(tmp_path, SCRIPT, *flags, *epochs, "--resume")
    assert result.returncode == 0, result.stderr
    assert f"Going on after epoch {done}." in result.stdout
    assert f"Epoch {done + 1}/{done + 1}" in result.stdout
    resumed = keras.saving.load_model(folder / "last.keras")
    assert int(resumed.optimizer.iterations) == 4 * (done + 1)
    optimizer = resumed.optimizer.inner_optimizer
    learning_rate = optimizer.get_config()["learning_rate"]
    assert learning_rate["config"]["decay_steps"] == 4 * (done + 1)
    assert learning_rate["config"]["initial_learning_rate"] == 0.002

    assert {path.name for path in folder.iterdir()} == {
        *("best.keras", "last.keras", "settings.json", "metrics.json", "history.csv"),
        *("curves.png", "routing.png", "reconstructions.png", "pose_tweaks.png"),
    }
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["dataset"] == "digits" and metrics["seed"] == 5
    assert metrics["variant"] == "paper" and metrics["epochs"] == done + 1
    assert metrics["precision"] == "mixed_float16"
    assert metrics["test_accuracy"] == pytest.approx(1 - metrics["test_error"])
    assert metrics["images_per_second"] > 0 and metrics["seconds"] > 0
    assert metrics["versions"]["keras"] == keras.__version__
    with open(folder / "history.csv") as file:
        rows = [int(row["epoch"]) for row in csv.DictReader(file)]
    assert rows == list(range(1, done + 2))
    model = keras.saving.load_model(folder / "best.keras")
    assert model.class_capsules.routing.iterations == 2
    assert metrics["parameters"] == model.count_params()


@once
def test_only_centred_digits_are_distorted(tmp_path):
    flags = ("convolutional", "--dataset", "multi_mnist", "--distorted")
    result = scripts.refused(tmp_path, SCRIPT, *flags)
    assert result.returncode == 2
    assert "--distorted is for digits and mnist, received multi_mnist" in result.stderr
    assert not list(tmp_path.iterdir())


@once
def test_a_contender(tmp_path):
    flags = ("--limit", "64", "--batch-size", "16", "--epochs", "1", "--output", "run")
    pictures = {}
    for name in ("inverted_attention", "cnn"):
        result = scripts.run(tmp_path, SCRIPT, "contender", "--routing", name, *flags)
        assert result.returncode == 0, result.stderr
        folder = tmp_path / "run"
        metrics = json.loads((folder / "metrics.json").read_text())
        assert metrics["routing"] == name
        assert 0.0 <= metrics["fgsm_accuracy"] <= metrics["test_accuracy"]
        found = "hidden_effective_parents" in metrics["history"][0]
        assert found == (name != "cnn")
        pictures[name] = {path.name for path in folder.glob("*.png")}
        folder.rename(tmp_path / name)
    assert pictures == {
        "inverted_attention": {"curves.png", "routing.png"},
        "cnn": {"curves.png"},
    }
