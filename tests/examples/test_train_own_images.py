import json
import os
import re

import keras
import numpy as np
import pytest
import scripts
from helpers import once
from PIL import Image

from keras_capsules import models

SCRIPT = "train_own_images.py"
SMALL = ("--size", "16", "--width", "2", "--batch-size", "64", "--output", "run")


@pytest.fixture
def folder(tmp_path):
    """Ten dark and seven light images, and one that can't be read."""
    random = np.random.default_rng(0)
    for name, level, count in (("dark", 40, 10), ("light", 200, 7)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(count):
            pixels = level + random.integers(0, 40, (20, 16 + index, 3), "uint8")
            path = tmp_path / "images" / name / f"{index}.png"
            Image.fromarray(pixels.astype("uint8")).save(path)
    (tmp_path / "images" / "dark" / "broken.png").write_bytes(b"no image")
    return tmp_path / "images"


def test_from_a_folder_to_an_exported_network(tmp_path, folder):
    flags = (str(folder), *SMALL, "--epochs", "2", "--decoder")
    result = scripts.run(tmp_path, SCRIPT, *flags)
    assert result.returncode == 0, result.stderr
    assert "left out: " in result.stdout and "broken.png" in result.stdout
    counts = re.search(
        r"(\d+) images to train, (\d+) to validate, (\d+) to test", result.stdout
    ).groups()
    assert sum(map(int, counts)) == 17
    output = tmp_path / "run"
    names = {path.name for path in output.iterdir()}
    assert names - {"mistakes.png"} == {
        *("best.keras", "last.keras", "metrics.json", "history.csv", "classes.json"),
        "settings.json",
        *("README.md", "curves.png", "confusion.png", "roc.png", "credit.png"),
        "reconstructions.png",
    }
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["images"].keys() == {"dark", "light"} and metrics["epochs"] == 2
    exported = tmp_path / "saved_models" / "run"
    card = (output / "README.md").read_text()
    assert "| classes | dark, light |" in card and "16×16 pixels" in card
    assert (exported / "README.md").read_text() == card
    model = keras.saving.load_model(exported / "model.keras")
    assert isinstance(model, models.CapsuleClassifier) and model.decoder is not None
    assert model.preprocess.scale == 1 / 255
    tensorflow = keras.backend.backend() == "tensorflow"
    assert (exported / "1" / "saved_model.pb").exists() == tensorflow
    # What predict_images.py reads, in both places.
    for place in (output, exported):
        assert json.loads((place / "classes.json").read_text()) == ["dark", "light"]


@once
def test_a_run_that_goes_on(tmp_path, folder):
    run = (str(folder), *SMALL)
    assert scripts.run(tmp_path, SCRIPT, *run, "--epochs", "1").returncode == 0
    refused = scripts.refused(tmp_path, SCRIPT, *run)
    assert refused.returncode == 2 and "add --resume" in refused.stderr
    (tmp_path / "images" / "dark").rename(tmp_path / "images" / "dim")
    refused = scripts.refused(tmp_path, SCRIPT, *run, "--width", "3", "--resume")
    made = "was made with {'width': 2, 'classes': ['dark', 'light']}"
    assert refused.returncode == 1 and made in refused.stderr
    (tmp_path / "images" / "dim").rename(tmp_path / "images" / "dark")
    # The same folder by another path.
    flags = ("images", *SMALL, "--epochs", "2", "--resume")
    result = scripts.run(tmp_path, SCRIPT, *flags)
    assert result.returncode == 0, result.stderr
    assert "Going on after epoch 1." in result.stdout
    assert "Epoch 2/2" in result.stdout and "Epoch 1/" not in result.stdout


@once
def test_a_folder_with_other_files_is_refused(tmp_path, folder):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("mine")
    result = scripts.refused(tmp_path, SCRIPT, str(folder), "--output", "mine")
    assert result.returncode == 2 and "mine holds other files" in result.stderr
    assert (tmp_path / "mine" / "README.md").read_text() == "mine"


@once
def test_classes_whose_names_are_not_utf_8_are_refused(tmp_path, folder):
    try:
        (folder / "dark").rename(folder / os.fsdecode(b"caf\xe9"))
    except OSError:
        pytest.skip("this file system has no such names")
    result = scripts.refused(tmp_path, SCRIPT, str(folder), *SMALL)
    assert result.returncode == 1 and r"('caf\udce9', 'light')" in result.stderr
    assert not (tmp_path / "run").exists()
