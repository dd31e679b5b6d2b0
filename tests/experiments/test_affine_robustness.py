import json

import pytest
import scripts
from helpers import once

DIGITS = """
import numpy as np, tensorflow as tf
from keras_capsules import datasets

def aff_mnist(data_dir, seed=0, affine=True):
    rng = np.random.default_rng(affine)
    return datasets.splits.Splits(*(
        tf.data.Dataset.from_tensor_slices(
            (rng.random((count, 20, 20, 1), "float32"), rng.integers(0, 10, count))
        )
        for count in (8, 8, 12 if affine else 10)
    ))

datasets.aff_mnist = aff_mnist
"""


@once
def test_a_whole_run(tmp_path):
    options = ("--batch-size", "8", "--output", "run", "--epochs", "2")
    script = "experiments.affine_robustness"
    result = scripts.run(tmp_path, script, *options, before=DIGITS)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "run"
    files = sorted(path.name for path in folder.iterdir())
    assert files == ["affine.png", "capsules", "cnn", "metrics.json"]
    metrics = json.loads((folder / "metrics.json").read_text())
    # A share of 12 changed and of 10 unchanged digits.
    for network in metrics.values():
        for error, count in (("novel_error", 12), ("familiar_error", 10)):
            mistakes = network[error] * count
            assert mistakes == pytest.approx(round(mistakes), abs=1e-4)
    ours = [100 * metrics[name]["novel_error"] for name in ("cnn", "capsules")]
    row = f"{ours[0]:10.1f}{34.0:8.1f}{ours[1]:12.1f}{21.0:8.1f}"
    assert "affine, changed".ljust(38) + row in result.stdout

    result = scripts.run(tmp_path, script, *options, "--resume", before=DIGITS)
    assert result.returncode == 0, result.stderr
    assert json.loads((folder / "metrics.json").read_text()) == metrics
