"""What every export checks before it writes anything."""

import os
from pathlib import Path
from typing import Any

from keras_capsules._backend import check_writes_saved_models
from keras_capsules.models import Classifier


def check_network(model: Any) -> None:
    """Raises an error if this model can't be exported here.

    Args:
        model: a network of `keras_capsules.models`.

    Raises:
        RuntimeError: Keras runs on another backend than TensorFlow.
        ValueError: the model is no network of ours.
    """
    check_writes_saved_models()
    if not isinstance(model, Classifier):
        raise ValueError(
            "Argument `model` must be a network of keras_capsules.models; other Keras "
            f"models have model.export(path). Received: model={model!r}"
        )


def writable_folder(path: str | os.PathLike) -> Path:
    """Makes a folder if it is not there yet.

    Args:
        path: the folder.

    Returns:
        The folder.

    Raises:
        ValueError: it can't be made or written to.
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
