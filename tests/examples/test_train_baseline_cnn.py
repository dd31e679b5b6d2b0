import json
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from keras_capsules import models

SCRIPT = Path(__file__).parents[2] / "examples" / "train_baseline_cnn.py"


pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="the networks are tested on each backend, the script once",
)


def test_a_whole_run(tmp_path):
    options = ("--limit", "64", "--batch-size", "16", "--epochs", "2")
    result = subprocess.run(
        [sys.executable, SCRIPT, *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "runs" / "cnn_digits"
    assert {path.name for path in folder.iterdir()} == {
        *("best.keras", "last.keras", "settings.json", "metrics.json", "history.csv"),
        "curves.png",
    }
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["dataset"] == "digits" and metrics["epochs"] == 2
    assert metrics["test_accuracy"] == pytest.approx(1 - metrics["test_error"])
    model = keras.saving.load_model(folder / "best.keras")
    assert isinstance(model, models.BaselineCNN) and model.classes == 10
