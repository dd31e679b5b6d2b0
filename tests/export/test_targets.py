import os

import keras
import pytest
from helpers import small_capsnet

from keras_capsules.export import targets

on_tensorflow = keras.backend.backend() == "tensorflow"


@pytest.mark.skipif(on_tensorflow, reason="TensorFlow does export")
def test_other_backends_say_what_to_do():
    with pytest.raises(RuntimeError, match="Only TensorFlow exports networks"):
        targets.check_network(small_capsnet())


@pytest.mark.skipif(not on_tensorflow, reason="only TensorFlow exports")
def test_only_networks_of_ours():
    targets.check_network(small_capsnet())
    with pytest.raises(ValueError, match="`model` must be a network"):
        targets.check_network(keras.Sequential([keras.Input((2,))]))


def test_a_folder_is_made(tmp_path):
    folder = targets.writable_folder(str(tmp_path / "a" / "b"))
    assert folder == tmp_path / "a" / "b" and folder.is_dir()
    assert targets.writable_folder(folder) == folder


def test_a_file_is_no_folder(tmp_path):
    file = tmp_path / "file"
    file.write_text("kept")
    for path in (file, file / "below"):
        with pytest.raises(ValueError, match=r"folder that can be written.*file"):
            targets.writable_folder(path)
    assert file.read_text() == "kept"


def test_a_folder_that_is_read_only(tmp_path, monkeypatch):
    # The superuser may write everywhere, so the answer is made up.
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(ValueError, match=r"can be written.*Permission denied"):
        targets.writable_folder(tmp_path)
