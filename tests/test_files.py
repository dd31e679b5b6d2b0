import os
import subprocess
import sys

import pytest
from helpers import once

from keras_capsules import files

pytestmark = once

# A process that doesn't import Keras.
HOLD = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("files", sys.argv[1])
files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)
with files.locked(sys.argv[2]):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_file_is_on_the_disk_before_it_is_in_its_place(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor):
        done.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def record_replace(old, new):
        done.append("replaced")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    folder = tmp_path / "unfinished"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "file").write_text("whole")
    files.replace(folder, tmp_path / "folder")
    assert (tmp_path / "folder" / "inner" / "file").read_text() == "whole"
    before, after = done[: done.index("replaced")], done[done.index("replaced") + 1 :]
    assert set(before) == {
        str(path) for path in (folder, folder / "inner", folder / "inner" / "file")
    }
    assert after == [str(tmp_path)]


def test_a_lock_ends_with_its_process(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, files.__file__, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"locked\n"
    with pytest.raises(BlockingIOError), files.locked(tmp_path, wait=False):
        pass
    process.kill()
    process.communicate()
    with files.locked(tmp_path, wait=False):
        assert not list(tmp_path.iterdir())
    with files.locked(tmp_path):
        pass


def test_where_there_are_no_locks_everybody_gets_one():
    with files.locked("gs://bucket/folder", wait=False):
        pass


def test_a_file_that_is_not_written_to_its_end_leaves_the_one_before(tmp_path):
    path = tmp_path / "file"
    with files.replaced(path) as unfinished:
        unfinished.write_text("first")
    with pytest.raises(ZeroDivisionError), files.replaced(path) as unfinished:
        unfinished.write_text("sec")
        raise ZeroDivisionError
    assert path.read_text() == "first" and list(tmp_path.iterdir()) == [path]
