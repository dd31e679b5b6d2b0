import os
import sys
import threading
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds
from helpers import all_examples, once

from keras_capsules import datasets
from keras_capsules.datasets.rendering import Studio
from keras_capsules.datasets.toy_shapes import CATEGORIES, toy
from keras_capsules.datasets.toys import Toys, ToysConfig, render

MODULE = sys.modules["keras_capsules.datasets.toys"]
pytestmark = once


@pytest.fixture(scope="module")
def builder(tmp_path_factory):
    """The toys of two categories from one side, in two lightings."""
    config = ToysConfig(
        name="tiny", elevations=range(8, 9), azimuths=range(3, 4), lightings=range(2)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MODULE, "CATEGORIES", CATEGORIES[:2])
        builder = Toys(config=config, data_dir=tmp_path_factory.mktemp("toys"))
        builder.download_and_prepare()
    return builder


def column(builder, split, name):
    return np.array(
        [example[name] for example in tfds.as_numpy(builder.as_dataset(split))]
    )


def test_features_and_labels_are_those_of_smallnorb(tmp_path):
    found = Toys(config="full", data_dir=tmp_path).info
    expected = tfds.builder("smallnorb", data_dir=tmp_path).info
    assert found.supervised_keys == expected.supervised_keys
    assert found.features.to_json_content() == expected.features.to_json_content()
    names = (info.features["label_category"].names for info in (found, expected))
    assert len(set(map(tuple, names))) == 1


def test_each_half_of_the_toys_in_its_split(builder):
    for split, instances in (("train", {4, 6, 7, 8, 9}), ("test", {0, 1, 2, 3, 5})):
        assert set(column(builder, split, "instance")) == instances
        np.testing.assert_array_equal(
            np.bincount(column(builder, split, "label_category")), [10] * 2
        )
        assert set(column(builder, split, "label_elevation")) == {8}
        assert set(column(builder, split, "label_azimuth")) == {3}
        assert set(column(builder, split, "label_lighting")) == {0, 1}


def test_pictures_are_the_same_whichever_process_renders_them(builder):
    studio = Studio(toy(1, 7))
    rng = np.random.default_rng((1, 7, 8, 3))
    expected = studio.photographs(70.0, 60.0, range(2), rng)
    (found,) = (
        example
        for example in tfds.as_numpy(builder.as_dataset("train"))
        if (example["label_category"], example["instance"]) == (1, 7)
        and example["label_lighting"] == 1
    )
    np.testing.assert_array_equal(found["image"][..., 0], expected[1, 0])
    np.testing.assert_array_equal(found["image2"][..., 0], expected[1, 1])


def test_pipeline_over_the_rendered_pairs(builder, monkeypatch):
    monkeypatch.setattr(MODULE, "render", lambda config, data_dir: builder)
    parts = datasets.toys(stereo=True)
    assert [len(part) for part in parts] == [18, 2, 20]
    images, labels = all_examples(parts.test)
    assert images.shape == (20, 32, 32, 2) and set(labels) == {0, 1}


def test_where_the_toys_go_is_said_before_they_are_rendered(
    tmp_path, monkeypatch, capsys
):
    def prepare(self):
        line = f"Rendering 4500 pairs (13.1 MB) into {tmp_path / 'toys' / 'small'}"
        assert line in capsys.readouterr().out
        self.data_path.mkdir()

    monkeypatch.setattr(Toys, "download_and_prepare", prepare)
    assert render("small", tmp_path).data_path.exists()
    render("small", tmp_path)
    assert capsys.readouterr().out == ""


def test_a_damaged_description_says_which_folder(tmp_path):
    folder = tmp_path / "toys" / "small" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text('{"name": "to')
    (folder / "features.json").write_text("{}")
    with pytest.raises(ValueError, match=f"toys in {tmp_path}/toys is damaged"):
        render("small", tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def prepare(self):
        raise AssertionError("rendered")

    monkeypatch.setattr(Toys, "download_and_prepare", prepare)
    (tmp_path / "file").write_text("kept")
    with pytest.raises(ValueError, match=r"`data_dir` must be a folder.*file \(.+\)"):
        render("small", tmp_path / "file")
    # The superuser may write everywhere, so the answer is made up.
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(ValueError, match=r"can be written.*Permission denied"):
        render("small", tmp_path / "closed")
    assert (tmp_path / "file").read_text() == "kept"


def test_a_full_disk(tmp_path, monkeypatch):
    def prepare(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Toys, "download_and_prepare", prepare)
    with pytest.raises(ValueError, match=r"`data_dir`.*No space left on device"):
        render("small", tmp_path)


def test_of_two_processes_one_renders_and_the_other_waits(
    tmp_path, monkeypatch, capsys
):
    def prepare(self):
        prepared.append(self)
        waiting.start()
        while "Waiting for another process" not in printed():
            time.sleep(0.01)
        self.data_path.mkdir()

    def printed():
        output.append(capsys.readouterr().out)
        return "".join(output)

    prepared, output = [], []
    waiting = threading.Thread(target=render, args=("small", tmp_path))
    monkeypatch.setattr(Toys, "download_and_prepare", prepare)
    render("small", tmp_path)
    waiting.join()
    assert len(prepared) == 1 and printed().count("Rendering") == 1


def test_tfds_knows_the_builder(tmp_path):
    builder = tfds.builder("toys/full", data_dir=tmp_path)
    assert isinstance(builder, Toys) and builder.builder_config.name == "full"


def test_configurations():
    pairs = {
        name: 25 * len(config.elevations) * len(config.azimuths) * len(config.lightings)
        for name, config in Toys.builder_configs.items()
    }
    assert pairs == {"small": 2250, "full": 24300}
    with pytest.raises(
        ValueError, match=r"\['full', 'small'\]. Received: config='big'"
    ):
        render("big", None)
