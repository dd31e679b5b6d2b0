"""A directory in which one process trains."""

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
# Whoever is refused reads the file, and Windows keeps a locked byte from being read.
_LOCKED_BYTE = 1 << 30

_files: dict[Path, IO] = {}  # of the directories that this process has locked


def lock(directory: Path) -> None:
    """Keeps other processes from training in a directory.

    The operating system ends the lock with its process, however that ends. A process
    locks a directory once: its next training goes on with the lock of one that failed.
    Where the file system has no locks, as some network drives don't, nothing is locked.

    Args:
        directory: a directory that is there.

    Raises:
        OSError: the directory can't be written.
        ValueError: another process trains there.
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
                f"Received: directory={directory}, where {holder} does"
            ) from error
        except OSError:
            pass  # no locks on this file system
        # The process before may have removed the file after it was opened here.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                break
        file.close()
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    _files[directory] = file


def unlock(directory: Path) -> None:
    """Lets other processes train in a directory again.

    Args:
        directory: a directory, locked or not.
    """
    file = _files.pop(directory.resolve(), None)
    if file is not None:
        with suppress(OSError):  # Windows keeps a file that is open
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
