"""Files and folders that are written atomically, and locks of folders."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

__all__ = ["locked", "replace", "replaced"]


def replace(unfinished: str | os.PathLike, path: str | os.PathLike) -> None:
    """Moves a finished file or folder to its final path in one atomic step.

    Args:
        unfinished: the file or folder, on the same file system as `path`.
        path: the final path. An existing file or an empty folder is replaced by one of
            its kind.

    Raises:
        OSError: the file can't be moved or written to the disk, or `path` is a folder
            that is not empty.

    Example:

    >>> import tempfile
    >>> from pathlib import Path
    >>> from keras_capsules.files import replace
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "unfinished").write_text("whole")
    >>> replace(folder / "unfinished", folder / "file")
    >>> [file.name for file in folder.iterdir()]
    ['file']
    """
    unfinished, path = Path(unfinished), Path(path)
    for part in (*unfinished.rglob("*"), unfinished):
        _write_to_disk(part)
    os.replace(unfinished, path)
    _write_to_disk(path.parent)


@contextmanager
def replaced(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path for a file that replaces `path` in one atomic step.

    The file is moved to `path` at the end of the `with` block. If the block raises an
    error or the process ends, `path` is unchanged.

    Args:
        path: the final path. Its folder must exist; the file itself need not.

    Yields:
        The temporary path.

    Raises:
        OSError: the folder of `path` is missing or can't be written, or the block left
            no file at the temporary path.

    Example:

    >>> import tempfile
    >>> from pathlib import Path
    >>> from keras_capsules.files import replaced
    >>> path = Path(tempfile.mkdtemp()) / "file"
    >>> with replaced(path) as unfinished:
    ...     _ = unfinished.write_text("whole")
    >>> path.read_text()
    'whole'
    """
    path = Path(path)
    with tempfile.TemporaryDirectory(prefix="unfinished-", dir=path.parent) as folder:
        unfinished = Path(folder) / path.name
        yield unfinished
        replace(unfinished, path)


@contextmanager
def locked(folder: str | os.PathLike, wait: bool = True) -> Iterator[None]:
    """Holds a lock on a folder, so that other processes wait or fail.

    The lock is not a file: the operating system releases it when the process ends, even
    if it is killed. Windows, cloud buckets and some network drives have no such locks;
    there the folder is not locked and no error is raised.

    Args:
        folder: the folder.
        wait: whether to wait if another process holds the lock.

    Raises:
        BlockingIOError: another process holds the lock, and `wait` is False.

    Example:

    >>> import tempfile
    >>> from keras_capsules.files import locked
    >>> with locked(tempfile.mkdtemp()):
    ...     print("nobody else is here")
    nobody else is here
    """
    with ExitStack() as until_the_end:
        try:
            descriptor = os.open(folder, os.O_RDONLY)
            until_the_end.callback(os.close, descriptor)
            _lock(descriptor, wait)
        except BlockingIOError:
            raise
        except OSError:
            pass  # the file system has no locks
        yield


def _lock(descriptor, wait):
    import fcntl  # not on Windows, where `os.open` fails for folders before this line

    fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def _write_to_disk(path):
    if path.is_dir():
        # Windows cannot open folders, and some network drives cannot sync them.
        with suppress(OSError):
            _sync(path, os.O_RDONLY)
    else:
        _sync(path, os.O_RDWR)


def _sync(path, flags):
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
