import errno
import signal
import subprocess
import sys

import pytest
from helpers import once

from keras_capsules.callbacks import directory_lock
from keras_capsules.callbacks.directory_lock import lock, unlock

# The file alone: Keras would take seconds.
HOLDER = """
import runpy, sys, time
from pathlib import Path
runpy.run_path(sys.argv[1])["lock"](Path(sys.argv[2]))
print("locked", flush=True)
time.sleep(600)
"""
pytestmark = once


@pytest.fixture
def holder(tmp_path):
    """Another process that has locked the directory."""
    arguments = [sys.executable, "-c", HOLDER, directory_lock.__file__, str(tmp_path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_another_process_is_named(tmp_path, holder):
    message = rf"`directory` .*{tmp_path}, in use by process {holder.pid} on "
    with pytest.raises(ValueError, match=message):
        lock(tmp_path)


def test_a_killed_process_holds_nothing(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert list(tmp_path.iterdir())
    lock(tmp_path)
    unlock(tmp_path)
    assert not list(tmp_path.iterdir())


def test_one_process_locks_a_directory_once(tmp_path):
    lock(tmp_path)
    lock(tmp_path / "." / "")
    unlock(tmp_path)
    unlock(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_file_that_its_holder_has_just_removed_is_no_lock(tmp_path, monkeypatch):
    lock_file = directory_lock._lock
    removed = []

    def remove_once(file):
        if not removed:
            (tmp_path / "checkpoint.lock").unlink()
            removed.append(True)
        lock_file(file)

    monkeypatch.setattr(directory_lock, "_lock", remove_once)
    lock(tmp_path)
    assert (tmp_path / "checkpoint.lock").exists()
    unlock(tmp_path)


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def no_locks(file):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(directory_lock, "_lock", no_locks)
    lock(tmp_path)
    unlock(tmp_path)


def test_a_directory_that_can_not_be_written(tmp_path):
    with pytest.raises(OSError, match="missing"):
        lock(tmp_path / "missing")
