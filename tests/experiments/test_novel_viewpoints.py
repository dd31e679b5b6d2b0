import json

import pytest
import scripts
from helpers import once

from keras_capsules.callbacks import Checkpoint

SPLITS = """
import numpy as np, tensorflow as tf
from experiments import matching
from keras_capsules import datasets

matching.SAMPLE = 8

def viewpoint_split(name, novel, data_dir, seed):
    assert novel == "elevation"
    expected = {"toys/small": (None, 1, 5), "eth80": ("photographs", 3, 8)}
    folder, channels, classes = expected[name]
    assert data_dir == folder
    rng = np.random.default_rng(0)
    return datasets.viewpoints.ViewpointSplits(*(
        tf.data.Dataset.from_tensor_slices(
            (
                rng.random((count, 20, 20, channels), "float32"),
                np.arange(count) % classes,
            )
        )
        for count in (8, 8, 10, 11)
    ))

datasets.viewpoint_split = viewpoint_split
"""

pytestmark = once


def run(folder, *options):
    small = ("--novel", "elevation", "--batch-size", "8", "--output", "run")
    return scripts.run(
        folder, "experiments.novel_viewpoints", *small, *options, before=SPLITS
    )


def test_a_whole_run(tmp_path):
    result = run(tmp_path, "--epochs", "2", "--cnn-epochs", "3")
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "run"
    files = sorted(path.name for path in folder.iterdir())
    assert files == ["elevation", "metrics.json", "viewpoints.png"]
    metrics = json.loads((folder / "metrics.json").read_text())["elevation"]
    cnn, capsules = metrics["cnn"], metrics["capsules"]
    assert cnn["epochs"] == 3 and capsules["epochs"] == 2

    histories = {
        name: Checkpoint.history_of(folder / "elevation" / name) for name in metrics
    }
    assert cnn["val_loss"] == min(epoch["val_loss"] for epoch in histories["cnn"])
    mismatches = [
        abs(epoch["familiar_error"] - cnn["familiar_error"])
        for epoch in histories["capsules"]
    ]
    assert capsules["mismatch"] == pytest.approx(min(mismatches))
    # An epoch tells of 8 of the 11 novel images, the results of all.
    for name, network in metrics.items():
        assert network["history"] == histories[name]
        (epoch,) = (e for e in histories[name] if e["epoch"] == network["epoch"])
        assert epoch["familiar_error"] == pytest.approx(network["familiar_error"])
        for row, count in (*((row, 8) for row in histories[name]), (network, 11)):
            mistakes = row["novel_error"] * count
            assert mistakes == pytest.approx(round(mistakes), abs=1e-4)
    for error, paper in (("novel", (17.8, 12.3)), ("familiar", (4.3, 4.3))):
        ours = [100 * network[f"{error}_error"] for network in (cnn, capsules)]
        row = f"{ours[0]:10.1f}{paper[0]:8.1f}{ours[1]:12.1f}{paper[1]:8.1f}"
        assert f"elevation, {error}".ljust(38) + row in result.stdout
    for name, network in metrics.items():
        # Familiar images are all tested after each epoch.
        last = network["last"]["familiar_error"]
        assert last == pytest.approx(histories[name][-1]["familiar_error"])
    assert "elevation, novel, after the last epoch" in result.stdout

    flags = ("--novel", "elevation", "--epochs", "3", "--output", "run")
    refused = scripts.refused(tmp_path, "experiments.novel_viewpoints", *flags)
    assert refused.returncode == 2 and "add --resume" in refused.stderr
    assert json.loads((folder / "metrics.json").read_text())["elevation"] == metrics

    again = run(tmp_path, "--epochs", "2", "--cnn-epochs", "3", "--resume")
    assert again.returncode == 0, again.stderr
    assert json.loads((folder / "metrics.json").read_text())["elevation"] == metrics


def test_eight_categories_in_colour(tmp_path):
    options = ("--dataset", "eth80", "--data-dir", "photographs", "--epochs", "1")
    result = run(tmp_path, *options)
    assert result.returncode == 0, result.stderr
    assert "eth80, and smallNORB in the paper" in result.stdout
