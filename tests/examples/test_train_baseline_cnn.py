import json

import keras
import pytest
import scripts

from keras_capsules import models


def test_a_whole_run(tmp_path):
    options = ("--limit", "64", "--batch-size", "16", "--epochs", "2")
    result = scripts.run(tmp_path, "train_baseline_cnn.py", *options)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "runs" / "cnn_digits"
    assert {path.name for path in folder.iterdir()} == {
        *("best.keras", "last.keras", "metrics.json", "history.csv"),
        "curves.png",
    }
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["dataset"] == "digits" and metrics["epochs"] == 2
    assert metrics["test_accuracy"] == pytest.approx(1 - metrics["test_error"])
    model = keras.saving.load_model(folder / "best.keras")
    assert isinstance(model, models.BaselineCNN) and model.classes == 10
