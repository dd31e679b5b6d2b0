import json

import keras
import pytest
import scripts

from keras_capsules import models


def test_a_whole_run(tmp_path):
    small = ("--dataset", "digits", "--limit", "32", "--batch-size", "32")
    options = ["--epochs", "1", "--iterations", "1", "--output", "run"]
    if keras.backend.backend() == "torch":
        options.append("--on-device")
    result = scripts.run(tmp_path, "train_matrix_capsnet.py", *small, *options)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "run"
    assert {path.name for path in folder.iterdir()} == {
        *("best.keras", "last.keras", "metrics.json", "history.csv"),
        *("curves.png", "routing.png", "vote_distances.png", "assignments.png"),
    }
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["variant"] == "small" and metrics["epochs"] == 1
    assert metrics["test_accuracy"] == pytest.approx(1 - metrics["test_error"])
    model = keras.saving.load_model(folder / "best.keras")
    assert isinstance(model, models.MatrixCapsNet) and model.classes == 10
    assert model.class_capsules.routing.iterations == 1
