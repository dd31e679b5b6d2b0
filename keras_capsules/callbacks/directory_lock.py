"""Locks that keep two processes from training in one directory."""

import atexit
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    import msvcrt

_NAME = "checkpoint.lock"
# On Windows a locked byte can't be read, but other processes must read the text at
# the beginning of the file.
_LOCKED_BYTE = 1 << 30

_files: dict[Path, IO] = {}  # of the directories that this process has locked


def lock(directory: Path) -> None:
    """Locks a directory, so that no other process trains there.

    The operating system releases the lock when the process ends, even if it is killed.
    Locking a directory again in the same process has no effect, so that a training can
    follow one that failed. Some network drives have no locks; there the directory is
    not locked and no error is raised.

    Args:
        directory: an existing directory.

    Raises:
        OSError: the directory can't be written.
        ValueError: another process has locked the directory.
    """
    directory = directory.resolve()
    if directory in _files:
        return
    path = directory / _NAME
    while True:
        file = open(path, "a+")  # noqa: SIM115
        try:
            _lock(file)
        except (BlockingIOError, PermissionError) as error:
            file.seek(0)
            holder = file.read(200) or "another process"
            file.close()
            raise ValueError(
                "Argument `directory` must be one in which no other process trains. "
                f"Received: directory={directory}, in use by {holder}"
            ) from error
        except OSError:
            pass  # no locks on this file system
        # The previous process may have removed the file after it was opened here.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                break
        file.close()
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    _files[directory] = file


def unlock(directory: Path) -> None:
    """Releases the lock of a directory.

    Args:
        directory: a directory. If it is not locked, nothing happens.
    """
    file = _files.pop(directory.resolve(), None)
    if file is not None:
        with suppress(OSError):  # Windows can't remove an open file
            os.unlink(file.name)
        file.close()


def _lock(file):
    if "fcntl" in globals():
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        file.seek(_LOCKED_BYTE)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)


@atexit.register
def _unlock_all():
    for directory in list(_files):
        unlock(directory)
