import json
import math
import os
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from keras_capsules import validation
from keras_capsules._backend import is_first_process

_HISTORY = "history.json"


@keras.saving.register_keras_serializable(package="keras_capsules")
class Checkpoint(keras.callbacks.Callback):
    """Keeps a training so that it can be stopped at any moment and go on.

    After every epoch two files in `directory` are replaced, each in one step,
    so that there is never half a file:

    - `last.keras`: the model, its optimizer and the history so far;
    - `best.keras`: the model of the best epoch.

    Of a training in several processes (`keras.distribution`) only the first writes;
    all of them can `load`, from a directory that they share.

    Args:
        directory: where the files go; made if it is missing.
        monitor: the quantity of `logs` that marks the best epoch.
        mode: whether its smallest value does, `"min"`, or its largest, `"max"`.
        history: the epochs before this training, as `Checkpoint.load` returns
            them.

    Raises:
        ValueError: `mode` is unknown, `directory` holds a training that goes on
            beyond `history`, or `monitor` is not among the logs of an epoch.

    Example:

    ```python
    checkpoint = Checkpoint("runs/mnist")
    model.fit(train, validation_data=validation, epochs=10, callbacks=[checkpoint])

    # In another process, after 4 epochs:
    model, history = Checkpoint.load("runs/mnist", like=model)
    checkpoint = Checkpoint("runs/mnist", history=history)
    model.fit(train, validation_data=validation, initial_epoch=len(history),
              epochs=10, callbacks=[checkpoint])
    ```
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        monitor: str = "val_loss",
        mode: str = "min",
        history: list[dict] | None = None,
    ) -> None:
        super().__init__()
        self.directory = Path(directory)
        self.monitor = monitor
        self.mode = validation.check_one_of("mode", mode, ("min", "max"))
        self.history = list(history or [])

    @staticmethod
    def load(
        directory: str | os.PathLike, like: keras.Model
    ) -> tuple[keras.Model, list[dict]]:
        """Reads a training back; changes no file.

        Args:
            directory: where the training was kept.
            like: a model of the architecture that is expected.

        Returns:
            The model with its optimizer, and the history: a dict for each
            epoch.

        Raises:
            ValueError: there is no training to go on with, or it is one of
                another architecture.
        """
        path = Path(directory) / "last.keras"
        if not path.exists():
            raise ValueError(
                f"Argument `directory` holds no training to go on with: {path} is "
                "missing."
            )
        history = Checkpoint.history_of(directory)
        model = keras.saving.load_model(path)
        _check_same_architecture(path, model, like)
        return model, history

    @staticmethod
    def history_of(directory: str | os.PathLike) -> list[dict]:
        """Reads how far a training has come, without its model.

        Args:
            directory: where the training was kept.

        Returns:
            A dict for each finished epoch; none if there is no training.

        Raises:
            ValueError: the file was not written by this callback.
        """
        path = Path(directory) / "last.keras"
        if not path.exists():
            return []
        try:
            with zipfile.ZipFile(path) as archive:
                return json.loads(archive.read(_HISTORY))
        except (zipfile.BadZipFile, KeyError) as error:
            raise ValueError(
                f"Argument `directory` holds no training to go on with: {path} was not "
                f"written by Checkpoint ({error})."
            ) from error

    def on_train_begin(self, logs=None):
        kept = len(self.history_of(self.directory))
        if kept > len(self.history):
            raise ValueError(
                f"Argument `directory` holds a training of {kept} epochs that would be "
                "lost. Pass its `history`, as `Checkpoint.load` returns it, to go on, "
                f"or choose another directory. Received: directory={self.directory}"
            )
        if is_first_process():
            for path in self.directory.glob("unfinished-*"):
                path.unlink()

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        if self.monitor not in (logs or {}):
            raise ValueError(
                "Argument `monitor` must be one of the logs of an epoch, "
                f"{sorted(logs or {})}. Received: monitor={self.monitor!r}"
            )
        seconds = time.perf_counter() - self._start
        row = {"epoch": epoch + 1, "seconds": seconds}
        row |= {name: float(value) for name, value in logs.items()}
        history = [*self.history, row]
        if is_first_process():
            self.directory.mkdir(parents=True, exist_ok=True)
            if row is self._best(history):
                self._save("best.keras", history)
            # Last, for it is what says that the epoch is over.
            self._save("last.keras", history)
        self.history = history

    @property
    def best_epoch(self) -> dict | None:
        """The epoch of `best.keras`, as the history has it; `None` before the first."""
        return self._best(self.history) if self.history else None

    def _best(self, history):
        return min(history, key=self._rank)

    def _rank(self, row):
        value = row[self.monitor]
        if math.isnan(value):
            return math.inf
        return value if self.mode == "min" else -value

    def get_config(self) -> dict:
        return {
            "directory": str(self.directory),
            "monitor": self.monitor,
            "mode": self.mode,
            "history": self.history,
        }

    @classmethod
    def from_config(cls, config: dict) -> "Checkpoint":
        return cls(**config)

    def _save(self, name, history):
        path = self.directory / name
        unfinished = path.with_name(f"unfinished-{name}")
        # Keras saves with the help of variables that the other processes don't make.
        distribution = keras.distribution.distribution()
        keras.distribution.set_distribution(None)
        try:
            self.model.save(unfinished)
        finally:
            keras.distribution.set_distribution(distribution)
        with zipfile.ZipFile(unfinished, "a") as archive:
            archive.writestr(_HISTORY, json.dumps(history))
        os.replace(unfinished, path)


def _check_same_architecture(path: Path, model: keras.Model, like: keras.Model) -> None:
    found, expected = (dict(_flat(_architecture(m))) for m in (model, like))
    differences = [
        f"{name} is {found.get(name)!r}, expected {expected.get(name)!r}"
        for name in sorted(found.keys() | expected.keys())
        if found.get(name) != expected.get(name)
    ]
    if differences:
        raise ValueError(
            f"{path} holds a model of another architecture: {'; '.join(differences)}."
        )


def _architecture(model: keras.Model) -> dict:
    """The config of a model, with numbers for the names that Keras numbers."""
    config = {"class": type(model).__name__, **model.get_config()}
    text = json.dumps(config)
    for index, name in enumerate(dict.fromkeys(_names(config))):
        text = text.replace(json.dumps(name), f'"#{index}"')
    # Whether a layer has been called yet is no part of the architecture.
    return json.loads(
        text, object_hook=lambda x: {k: x[k] for k in x if k != "build_config"}
    )


def _flat(config: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The settings of a nested config, each under its dotted name."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _names(config: Any) -> Iterator[str]:
    """The names of all layers in a config, in their order."""
    if isinstance(config, dict):
        for key, value in config.items():
            if key == "name" and value:
                yield value
            elif key != "dtype":  # a precision has a name too
                yield from _names(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            yield from _names(value)
