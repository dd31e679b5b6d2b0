import json

import keras
import scripts
from helpers import once

PHOTOGRAPHS = """
import numpy as np
from keras_capsules.datasets import download, pairs, photographs

def load(builder, split, stereo):
    assert builder == "toys/small" and split == "test" and not stereo
    labels, instances = (grid.ravel() for grid in np.mgrid[:5, :8])
    images = np.zeros((40, 48, 48, 1), "uint8")
    images[:, :, 24:] = 25 * (1 + labels.reshape(-1, 1, 1, 1))
    zero = np.zeros(40, "int32")
    return photographs.Photographs(images, labels, zero, zero, instances // 4)

download.download = lambda name, data_dir: name
pairs.load = load
"""

pytestmark = once


def network(folder, favourite, as_dict=False):
    """A network that takes every photograph for one category."""
    images = keras.Input((32, 32, 1))
    scores = keras.layers.Dense(5, kernel_initializer="zeros")
    output = scores(keras.layers.Flatten()(images))
    scores.bias.assign([float(category == favourite) for category in range(5)])
    folder.mkdir()
    outputs = {"scores": output} if as_dict else output
    keras.Model(images, outputs).save(folder / "best.keras")


def test_a_whole_run(tmp_path):
    network(tmp_path / "cnn", 4)
    network(tmp_path / "capsules", 3, as_dict=True)
    models = [f"{name}/best.keras" for name in ("cnn", "capsules")]
    options = (*models, "--output", "out")
    result = scripts.run(
        tmp_path, "experiments.mistaken_toys", *options, before=PHOTOGRAPHS
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out" / "toys.png").exists()
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["test_error"] == {"cnn": 0.8, "capsules": 0.8}
    rows = {row["toy"]: row for row in metrics["toys"]}
    assert len(rows) == 10
    assert rows["cars 0"]["cnn"] == {"error": 0.0, "mistaken_for": None}
    assert rows["cars 1"]["capsules"] == {"error": 1.0, "mistaken_for": "trucks"}
    assert "0.0 (never)" in result.stdout and "100.0 (trucks)" in result.stdout
    # The first three are those of categories that neither network knows.
    others = f"{100.0 * 5 / 7:28.2f}"
    assert f"the other 7           {others}{others}\n" in result.stdout


def test_networks_that_can_not_be_told_apart(tmp_path):
    options = ("a/run/best.keras", "b/run/best.keras")
    result = scripts.refused(tmp_path, "experiments.mistaken_toys", *options)
    assert result.returncode == 2
    assert "folders of different names, received ['run', 'run']" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_network_of_other_images(tmp_path):
    images = keras.Input((8, 8, 1))
    scores = keras.layers.Dense(5)(keras.layers.Flatten()(images))
    (tmp_path / "cnn").mkdir()
    keras.Model(images, scores).save(tmp_path / "cnn" / "best.keras")
    options = ("cnn/best.keras",)
    result = scripts.run(
        tmp_path, "experiments.mistaken_toys", *options, before=PHOTOGRAPHS
    )
    assert result.returncode == 1
    assert "cnn can't take images of toys: " in result.stderr
    assert "Traceback" not in result.stderr


def test_a_network_that_is_missing(tmp_path):
    options = ("none/best.keras",)
    result = scripts.run(
        tmp_path, "experiments.mistaken_toys", *options, before=PHOTOGRAPHS
    )
    assert result.returncode == 1
    assert "best.keras" in result.stderr and "Traceback" not in result.stderr
