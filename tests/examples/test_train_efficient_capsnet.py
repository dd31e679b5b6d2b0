import json

import keras
import pytest
import scripts
from helpers import once

from keras_capsules import models
from keras_capsules.callbacks import Checkpoint

SCRIPT = "train_efficient_capsnet.py"
SMALL = ("--limit", "64", "--batch-size", "16", "--output", "run")
# A network that every backend trains quickly.
BEFORE = """
from keras_capsules import models
small = dict(
    filters=(4, 5), primary_capsules=3, primary_pose_shape=4, class_pose_shape=6,
    decoder_units=(8,))
models.EfficientCapsNet.variants = dict.fromkeys(
    models.EfficientCapsNet.variants, small)
"""
NAMES = {
    *("best.keras", "last.keras", "metrics.json", "history.csv"),
    *("curves.png", "reconstructions.png", "pose_tweaks.png"),
}


def train(folder, *options):
    return scripts.run(folder, SCRIPT, *SMALL, *options, before=BEFORE)


def test_a_whole_run(tmp_path):
    options = ["--seed", "5"]
    if keras.backend.backend() == "torch":
        options.append("--on-device")
    result = train(tmp_path, "--epochs", "1", *options)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "run"
    assert {path.name for path in folder.iterdir()} == NAMES
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["dataset"] == "digits" and metrics["seed"] == 5
    assert metrics["variant"] == "paper" and metrics["output"] == "run"
    assert metrics["epochs"] == 1 and metrics["seconds"] > 0
    assert metrics["test_accuracy"] == pytest.approx(1 - metrics["test_error"])
    assert f"test_error  {metrics['test_error']:.4f}" in result.stdout
    model = keras.saving.load_model(folder / "best.keras")
    assert isinstance(model, models.EfficientCapsNet)
    assert model.image_shape == (28, 28, 1) and model.classes == 10
    assert model.filters == (4, 5) and model.objects == 1
    assert metrics["parameters"] == model.count_params()
    exported = tmp_path / "saved_models" / "run"
    bare = keras.saving.load_model(exported / "model.keras")
    assert not bare.compiled and bare.count_params() == metrics["parameters"]
    served = exported / "1" / "saved_model.pb"
    assert served.exists() == (keras.backend.backend() == "tensorflow")


@once
def test_a_run_that_goes_on(tmp_path):
    assert train(tmp_path, "--epochs", "1").returncode == 0
    refused = scripts.refused(tmp_path, SCRIPT, *SMALL)
    assert refused.returncode == 2
    assert "run holds a run: add --resume, or choose another" in refused.stderr
    result = train(tmp_path, "--epochs", "2", "--resume")
    assert result.returncode == 0, result.stderr
    assert "Going on after epoch 1." in result.stdout
    assert "Epoch 2/2" in result.stdout and "Epoch 1/" not in result.stdout
    folder = tmp_path / "run"
    assert len(Checkpoint.history_of(folder)) == 2
    assert {path.name for path in folder.iterdir()} == NAMES
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["epochs"] == 2 and metrics["resume"]
    last = keras.saving.load_model(folder / "last.keras")
    assert int(last.optimizer.iterations) == 8


@once
def test_a_network_of_the_package_is_not_overwritten(tmp_path):
    output = "runs/matrix_capsnet_mnist_small"
    result = scripts.refused(tmp_path, SCRIPT, "--output", output)
    assert result.returncode == 2
    assert "matrix_capsnet_mnist_small is a network of the package" in result.stderr
    assert not list(tmp_path.iterdir())
