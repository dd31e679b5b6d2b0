"""Checks of all exports, and the files and folders that they write."""

import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from keras_capsules import files
from keras_capsules._backend import check_writes_saved_models
from keras_capsules.models import Classifier


def check_network(model: Any) -> None:
    """Raises an error if a model can't be exported.

    Args:
        model: a network of `keras_capsules.models`.

    Raises:
        RuntimeError: Keras runs on another backend than TensorFlow.
        ValueError: the model is not a network of `keras_capsules.models`.
    """
    check_writes_saved_models()
    if not isinstance(model, Classifier):
        raise ValueError(
            "Argument `model` must be a network of keras_capsules.models; other Keras "
            f"models have model.export(path). Received: model={model!r}"
        )


def writable_folder(path: str | os.PathLike) -> Path:
    """Creates a folder if it is missing, and checks that it can be written.

    Args:
        path: path of the folder.

    Returns:
        The path of the folder.

    Raises:
        ValueError: the folder can't be created or written.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(path, os.W_OK) else "Permission denied"
    except OSError as error:
        reason = error.strerror
    if reason:
        raise ValueError(
            "Argument `path` must lead to a folder that can be written. Received: "
            f"path={path} ({reason})"
        )
    return path


@contextmanager
def unfinished_folder(target: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `target`, which is removed at the end.

    An export writes its files there and then calls `put`. Before that, the folders of
    exports that were killed are removed, and a `target` that they had moved away is
    restored.

    Args:
        target: the file or folder that an export writes.

    Yields:
        The path of the temporary folder.

    Raises:
        ValueError: another process is exporting to `target`.
    """
    prefix = f"unfinished-{target.name}-"
    with ExitStack() as until_the_end:
        with files.locked(target.parent):
            for left in target.parent.glob(f"{glob.escape(prefix)}*"):
                if left.is_dir() and not left.is_symlink():
                    _tidy_if_left(left, target)
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
            until_the_end.enter_context(files.locked(folder))
            until_the_end.callback(_tidy, folder, target)
        yield folder


def put(unfinished: Path, target: Path) -> None:
    """Moves a finished export to its final path.

    Args:
        unfinished: file or folder in an `unfinished_folder` of `target`.
        target: the final path. An existing file or folder is replaced.
    """
    if unfinished.is_dir() and os.path.lexists(target):
        # A folder is replaced in two steps. If the second one fails, `_tidy` undoes the
        # first one.
        os.replace(target, _replaced(unfinished.parent))
    files.replace(unfinished, target)


def _replaced(folder):
    return folder / "replaced"


def _tidy_if_left(folder, target):
    try:
        with files.locked(folder, wait=False):
            _tidy(folder, target)
    except BlockingIOError as error:
        raise ValueError(
            f"Argument `path` must not be written by two exports at once: another "
            f"process is exporting to {target}."
        ) from error


def _tidy(folder, target):
    """Removes the folder of an export, and restores `target` if the export failed."""
    if not os.path.lexists(target):
        with suppress(FileNotFoundError):
            os.replace(_replaced(folder), target)
    shutil.rmtree(folder, ignore_errors=True)
