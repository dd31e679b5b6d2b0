import json

import scripts
from helpers import once

from keras_capsules import models

# A bar stands as high as the elevation says; the azimuth shows nowhere.
PHOTOGRAPHS = """
import numpy as np
from keras_capsules.datasets import download, pairs, photographs

def load(builder, split, stereo):
    assert builder == "toys/small" and split == "test" and not stereo
    grids = (grid.ravel() for grid in np.mgrid[:5, :3, :8])
    labels, instances, views = grids
    grey = (20 + 20 * instances).astype("uint8")
    images = np.tile(grey[:, None, None, None], (1, 48, 48, 1))
    for image, view in zip(images, views):
        image[10 + 3 * view : 14 + 3 * view, 12:36] = 250
    azimuths = np.random.default_rng(0).integers(0, 360, 120)
    return photographs.Photographs(images, labels, 30 + 5 * views, azimuths, instances)

download.download = lambda name, data_dir: name
pairs.load = load
"""

pytestmark = once


def test_a_whole_run(tmp_path):
    for name, model in {
        "cnn": models.BaselineCNN((32, 32, 1), 5, filters=(4, 4), units=64),
        "capsules": models.MatrixCapsNet((32, 32, 1), 5, (8, 2, 3, 3)),
    }.items():
        (tmp_path / name).mkdir()
        model.save(tmp_path / name / "best.keras")
    files = [f"{name}/best.keras" for name in ("cnn", "capsules")]
    options = (*files, "--output", "out")
    script = "experiments.equivariance"
    result = scripts.run(tmp_path, script, *options, before=PHOTOGRAPHS)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out" / "equivariance.png").exists()
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["mean"]["elevation"]["cnn"] > 0.8
    assert metrics["mean"]["azimuth"]["cnn"] < 0.3
    assert set(metrics["mean"]["elevation"]) == {"cnn", "capsules"}
    assert len(metrics["r2"]["azimuth"]) == 10
    mean = metrics["mean"]["elevation"]["cnn"]
    assert "elevation, mean".ljust(22) + f"{mean:14.2f}" in result.stdout


def test_networks_that_can_not_be_told_apart(tmp_path):
    options = ("a/run/best.keras", "b/run/best.keras")
    result = scripts.refused(tmp_path, "experiments.equivariance", *options)
    assert result.returncode == 2
    assert "folders of different names, received ['run', 'run']" in result.stderr


def test_a_network_of_other_classes(tmp_path):
    (tmp_path / "cnn").mkdir()
    models.BaselineCNN((32, 32, 1), 3, filters=(4, 4), units=8).save(
        tmp_path / "cnn" / "best.keras"
    )
    script = "experiments.equivariance"
    result = scripts.run(tmp_path, script, "cnn/best.keras", before=PHOTOGRAPHS)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "cnn/best.keras must be a network of this package with 5 " in result.stderr
