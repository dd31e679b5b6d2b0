import json

import scripts
from helpers import once, small_capsnet

from keras_capsules import models

SCRIPT = "adversarial_robustness.py"
NETWORKS = ("--capsules", "capsules.keras", "--cnn", "cnn.keras")


@once
def test_a_whole_run(tmp_path):
    small_capsnet((28, 28, 1), 10, primary_strides=4).save(tmp_path / "capsules.keras")
    cnn = models.BaselineCNN((28, 28, 1), 10, (2, 2), units=8)
    cnn.compile("adam", "sparse_categorical_crossentropy")
    cnn.save(tmp_path / "cnn.keras")
    small = ("--images", "30", "--batch-size", "20", "--steps", "2")
    options = (*NETWORKS, *small, "--epsilons", "0", "0.1", "--output", "out")
    result = scripts.run(tmp_path, SCRIPT, *options)
    assert result.returncode == 0, result.stderr
    assert "8/8" in result.stdout  # 2 networks, 2 epsilons, 2 batches
    assert (tmp_path / "out" / "attacks.png").exists()
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["images"] == 30 and metrics["loss"] == "cross_entropy"
    for name, rows in metrics["accuracy"].items():
        assert [row["model"] for row in rows] == ["capsules"] * 2 + ["cnn"] * 2
        assert all(0.0 <= row["accuracy"] <= 1.0 for row in rows)
        for row in rows[:2]:
            line = f"{name:8}{row['epsilon']:>8.3f}{row['accuracy']:>10.3f}"
            assert line in result.stdout


@once
def test_a_network_that_is_missing(tmp_path):
    result = scripts.refused(tmp_path, SCRIPT, *NETWORKS)
    assert result.returncode == 1 and "capsules.keras" in result.stderr
