"""Files and folders that others see whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

__all__ = ["locked", "replace", "replaced"]


def replace(unfinished: str | os.PathLike, path: str | os.PathLike) -> None:
    """Moves a finished file or folder to its place in one step.

    Args:
        unfinished: the file or folder, on the file system of `path`.
        path: its place. A file that is there is replaced.

    Example:

    >>> import tempfile
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
    """Yields a path to write a file to, which becomes `path` in one step at the end.

    If it is not written to its end, `path` stays as it was.

    Args:
        path: the file, in a folder that is there. It need not be there itself.

    Example:

    >>> import tempfile
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
    """Holds the lock of a folder, so that other processes wait or fail.

    The lock is no file: it ends with the process, however that ends. Windows, buckets
    and some network drives have no such locks; there everybody gets one.

    Args:
        folder: the folder.
        wait: whether to wait for the lock if another process has it.

    Raises:
        BlockingIOError: another process has it, and `wait` is false.

    Example:

    >>> import tempfile
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
            pass  # there are no locks here
        yield


def _lock(descriptor, wait):
    import fcntl  # which Windows lacks: it has no descriptors of folders either

    fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def _write_to_disk(path):
    if path.is_dir():
        # Windows opens no folders, some network drives write none to the disk.
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
