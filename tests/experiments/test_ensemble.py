import json

import keras
import numpy as np
import pytest
import scripts
from helpers import once

from keras_capsules import datasets


def network(folder, scores, shape=(28, 28, 1)):
    """Saves a network that gives every image the same scores of ten classes."""
    images = keras.Input(shape)
    dense = keras.layers.Dense(10, kernel_initializer="zeros")
    output = dense(keras.layers.Flatten()(images))
    dense.bias.assign(np.bincount(list(scores), list(scores.values()), 10))
    folder.mkdir()
    keras.Model(images, output).save(folder / "best.keras")


def command(*networks):
    files = [f"{name}/best.keras" for name in networks]
    return "experiments.ensemble", "--dataset", "digits", "--output", "out", *files


@once
def test_scores_are_averaged(tmp_path):
    network(tmp_path / "one", {3: 1.0, 5: 0.8})
    network(tmp_path / "two", {4: 1.0, 5: 0.8})
    result = scripts.run(tmp_path, *command("one", "two"))
    assert result.returncode == 0, result.stderr
    labels = [int(label) for _, label in datasets.digits().test]
    error = {digit: 1.0 - labels.count(digit) / len(labels) for digit in (3, 4, 5)}
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["members"] == pytest.approx({"one": error[3], "two": error[4]})
    assert metrics["test_error"] == pytest.approx(error[5])
    assert metrics["parameters"] == 2 * (28 * 28 + 1) * 10
    assert f"{100.0 * error[5]:6.2f} %  ensemble" in result.stdout


@once
def test_a_network_of_other_images(tmp_path):
    network(tmp_path / "one", {3: 1.0}, shape=(8, 8, 1))
    result = scripts.refused(tmp_path, *command("one"))
    assert result.returncode == 1
    assert "one can't take images of digits: " in result.stderr
