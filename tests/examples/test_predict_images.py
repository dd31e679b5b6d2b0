import csv
import json
import os

import keras
import numpy as np
import pytest
import scripts
from helpers import once
from PIL import Image

from keras_capsules import models

SCRIPT = "predict_images.py"

pytestmark = once


@pytest.fixture
def model(tmp_path):
    """A network in the folder `run`, and images of which one can't be read."""
    shape = (16, 16, 3)
    model = models.CapsuleClassifier(
        shape,
        2,
        backbone=models.residual_backbone(shape, 2, 1),
        preprocess=keras.layers.Rescaling(1 / 255),
    )
    (tmp_path / "run").mkdir()
    model.save(tmp_path / "run" / "model.keras")
    (tmp_path / "run" / "classes.json").write_text(json.dumps(["dark", "light"]))
    random = np.random.default_rng(0)
    (tmp_path / "images" / "more").mkdir(parents=True)
    for index in range(35):  # more than a batch
        pixels = random.integers(0, 256, (16, 16, 3), "uint8")
        path = tmp_path / "images" / ("more" if index % 2 else "") / f"{index}.png"
        Image.fromarray(pixels).save(path)
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    return model


def test_a_folder(tmp_path, model):
    latin = tmp_path / "images" / os.fsdecode(b"caf\xe9.png")
    (tmp_path / "images" / "0.png").rename(latin)
    result = scripts.run(tmp_path, SCRIPT, "run", "images", "--csv", "found.csv")
    assert result.returncode == 0, result.stderr
    assert "images/caf\\udce9.png: " in result.stdout
    assert "images/broken.png: can't be read" in result.stderr
    with open(tmp_path / "found.csv", newline="", errors="surrogateescape") as file:
        first, *rows = csv.reader(file)
    assert first == ["file", "class", "dark", "light"] and len(rows) == 35
    images = np.stack([np.asarray(Image.open(tmp_path / row[0])) for row in rows])
    scores = model.predict(images, verbose=0)["scores"]
    for row, expected in zip(rows, scores, strict=True):
        np.testing.assert_allclose([float(x) for x in row[2:]], expected, atol=1e-3)
        assert row[1] == first[2 + expected.argmax()]
    assert f"{rows[0][0]}: {rows[0][1]} {scores[0].max():.2f}, " in result.stdout


def test_what_is_wrong_is_said_in_one_line(tmp_path, model):
    for flags, code, reason in (
        (("images", "images"), 1, "images holds no network of train_own_images.py"),
        (("run", "images", "--csv", "no/a.csv"), 2, "--csv no/a.csv can't be written"),
        (("run", "images", "--csv", "images"), 2, "--csv images can't be written"),
    ):
        result = scripts.refused(tmp_path, SCRIPT, *flags)
        assert result.returncode == code and reason in result.stderr
        assert not result.stdout
