import os

import keras
import pytest
from helpers import small_capsnet

from keras_capsules import files
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


def test_an_unfinished_folder_is_private_and_goes_at_the_end(tmp_path):
    target = tmp_path / "net.tflite"
    with targets.unfinished_folder(target) as folder:
        assert folder.parent == tmp_path and folder.stat().st_mode & 0o777 == 0o700
        (folder / target.name).write_text("whole")
        targets.put(folder / target.name, target)
    assert target.read_text() == "whole"
    assert [file.name for file in tmp_path.iterdir()] == ["net.tflite"]
    assert target.stat().st_mode & 0o777 == 0o666 & ~umask()


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_links_are_not_written_through(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_text("kept")
    exports = tmp_path / "exports"
    exports.mkdir()
    planted = ["unfinished-1", "replaced-1", "unfinished-1-abc", "1"]
    for name in planted:
        (exports / name).symlink_to(elsewhere)
    with targets.unfinished_folder(exports / "1") as folder:
        (folder / "1").mkdir()
        (folder / "1" / "file").write_text("new")
        targets.put(folder / "1", exports / "1")
    assert [file.read_text() for file in elsewhere.iterdir()] == ["kept"]
    assert not (exports / "1").is_symlink()
    assert (exports / "1" / "file").read_text() == "new"
    assert sorted(path.name for path in exports.iterdir()) == sorted(planted)


def test_what_a_failed_export_replaced_is_back(tmp_path, monkeypatch):
    def fail(unfinished, path):
        assert not path.exists()
        raise OSError("no space left")

    monkeypatch.setattr(files, "replace", fail)
    target = tmp_path / "1"
    target.mkdir()
    (target / "file").write_text("kept")
    with (
        pytest.raises(OSError, match="no space left"),
        targets.unfinished_folder(target) as folder,
    ):
        (folder / "1").mkdir()
        targets.put(folder / "1", target)
    assert (target / "file").read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_what_a_killed_export_left_is_removed_but_not_what_is_in_use(tmp_path):
    target = tmp_path / "1"
    left = [tmp_path / "unfinished-1-abc", tmp_path / "unfinished-1-def"]
    other = tmp_path / "unfinished-10-abc"
    for folder in (*left, other):
        folder.mkdir()
    with targets.unfinished_folder(target) as folder:
        assert not any(path.exists() for path in left)
        with (
            pytest.raises(ValueError, match=r"two exports at once.*/1\b"),
            targets.unfinished_folder(target),
        ):
            pass
        assert folder.exists()
        with targets.unfinished_folder(tmp_path / "2"):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["unfinished-10-abc"]
