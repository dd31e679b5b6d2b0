import csv
import json
import math
import os
import shutil
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras

from keras_capsules import files, validation
from keras_capsules._backend import is_first_process
from keras_capsules.callbacks import interruptions
from keras_capsules.callbacks._averages import (
    averages_of,
    averages_weights,
    swap_averages,
)
from keras_capsules.callbacks.directory_lock import lock, unlock

_HISTORY = "history.json"
_MAX_HISTORY = 32 << 20  # bytes, of more than 100,000 epochs


@keras.saving.register_keras_serializable(package="keras_capsules")
class Checkpoint(keras.callbacks.Callback):
    """Saves a training after each epoch, so that it can be stopped and resumed.

    After every epoch three files in `directory` are replaced, each in one step and
    after it has reached the disk, so that there is never half a file:

    - `last.keras`: the model, its optimizer and the history so far;
    - `best.keras`: a copy of the `last.keras` of the best epoch;
    - `history.csv`: the history as a table.

    `last.keras` comes first. What a kill leaves of the others is made good when the
    training goes on. Ctrl-C waits until a save is done.

    Where the optimizer averages the weights (`use_ema=True`) the models that are
    kept have the averages for weights. To validate with them as well add
    `keras.callbacks.SwapEMAWeights()`, without `swap_on_epoch`.

    Of a training in several processes (`keras.distribution`) only the first writes;
    all of them can `restore`, from a directory that they share. While it trains, other
    processes that want to train in `directory` are refused.

    Args:
        directory: where the files go; made if it is missing.
        monitor: the quantity of `logs` that marks the best epoch.
        mode: whether its smallest value does, `"min"`, or its largest, `"max"`.

    Attributes:
        history: a dict for each finished epoch. `restore` fills it with those of
            the training that goes on.

    Raises:
        OSError: a file can't be written; the last save stays as it is.
        ValueError: `mode` is unknown; `directory` can't be written, another process
            trains there, or it holds a training that goes on beyond `history` or
            whose `best.keras` is lost; or `monitor` is not among the logs of an
            epoch.

    Example:

    ```python
    checkpoint = callbacks.Checkpoint("runs/mnist")
    checkpoint.restore(model)  # after 4 epochs, say, in another process
    model.fit(train, validation_data=validation, epochs=10,
              initial_epoch=len(checkpoint.history), callbacks=[checkpoint])
    ```
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        monitor: str = "val_loss",
        mode: str = "min",
    ) -> None:
        super().__init__()
        self.directory = Path(directory)
        self.monitor = monitor
        self.mode = validation.check_one_of("mode", mode, ("min", "max"))
        self.history = []

    def restore(self, model: keras.Model) -> None:
        """Restores the weights and the state of the optimizer that were saved.

        A directory without a training changes nothing. The learning-rate schedule
        stays the one that the model is compiled with: another number of epochs
        can stretch it. No file is changed.

        Args:
            model: a compiled model of the architecture and with the kind of
                optimizer that are kept.

        Raises:
            ValueError: the model is not compiled, has another architecture or another
                optimizer, or the file is damaged or was not written by this callback.
        """
        history = self.history_of(self.directory)
        if history and not model.compiled:
            raise ValueError(
                "Argument `model` must be compiled, to take the optimizer's state. "
                f"Received: {type(model).__name__}"
            )
        if history:
            path = self.directory / "last.keras"
            with _as_value_error(path):
                _check_whole(path)
                kept = keras.saving.load_model(path)
            _check_same_architecture(path, kept, model)
            _check_same_optimizer(path, kept.optimizer, model)
            with _as_value_error(path):
                model.load_weights(path)
            if averages_weights(model):
                swap_averages(model)
        self.history = history

    @staticmethod
    def history_of(directory: str | os.PathLike) -> list[dict]:
        """Reads the history of a saved training, without its model.

        Args:
            directory: where the training was kept.

        Returns:
            A dict for each finished epoch; none if there is no training.

        Raises:
            ValueError: the file is damaged or was not written by this callback.
        """
        path = Path(directory) / "last.keras"
        return _read_history(path) if os.path.lexists(path) else []

    def on_train_begin(self, logs=None):
        try:
            if is_first_process():
                self._begin()
            else:
                self._check_nothing_is_lost()
        except BaseException:
            unlock(self.directory)
            raise
        interruptions.begin_training()

    def on_train_batch_begin(self, batch, logs=None):
        interruptions.stop_if_asked(len(self.history))

    def on_test_batch_begin(self, batch, logs=None):
        interruptions.stop_if_asked(len(self.history))

    def on_train_end(self, logs=None):
        unlock(self.directory)
        interruptions.stop_if_asked(len(self.history))
        interruptions.end_training()

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.perf_counter() - self._start
        try:
            with interruptions.signals_wait():
                self._keep({"epoch": epoch + 1, "seconds": seconds}, logs or {})
        except BaseException:
            unlock(self.directory)
            raise

    @property
    def best_epoch(self) -> dict | None:
        """The epoch of `best.keras`, as the history has it; `None` before the first."""
        return self._best(self.history) if self.history else None

    def _begin(self):
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            lock(self.directory)
        except OSError as error:
            raise ValueError(
                "Argument `directory` must lead to a folder that can be written. "
                f"Received: directory={self.directory} ({error.strerror})"
            ) from error
        self._check_nothing_is_lost()
        for path in self.directory.glob("unfinished-*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
        if self.history:
            for row in self.history:
                self._check_monitor(row)
            self._find_best()
            self._write_table(self.history)

    def _check_nothing_is_lost(self):
        kept = len(self.history_of(self.directory))
        if kept > len(self.history):
            raise ValueError(
                f"Argument `directory` holds a training of {kept} epochs that would be "
                "lost. Call `restore(model)` to go on with it, or choose another "
                f"directory. Received: directory={self.directory}"
            )

    def _check_monitor(self, logs):
        if self.monitor not in logs:
            raise ValueError(
                "Argument `monitor` must be one of the logs of an epoch, "
                f"{sorted(logs)}. Received: monitor={self.monitor!r}"
            )

    def _find_best(self):
        """Sees that `best.keras` is the best epoch; a kill may have come before it."""
        path = self.directory / "best.keras"
        best = self._best(self.history)
        try:
            _check_whole(path)
            kept = _read_history(path)[-1]
            reason = f"it is of epoch {kept['epoch']}"
        except (OSError, ValueError, KeyError) as error:
            kept, reason = None, str(error)
        # As text, in which NaN equals itself.
        if json.dumps(kept) == json.dumps(best):
            return
        if best is not self.history[-1]:
            raise ValueError(
                f"{path} must hold epoch {best['epoch']}, the best by "
                f"{self.monitor!r}, mode {self.mode!r}, but {reason}. Choose another "
                "directory, or what was monitored before."
            )
        self._copy_last_to_best()

    def _keep(self, row, logs):
        self._check_monitor(logs)
        row |= {name: float(value) for name, value in logs.items()}
        history = [*self.history, row]
        with averages_of(self.model):  # in all processes: they share the weights
            if is_first_process():
                self.directory.mkdir(parents=True, exist_ok=True)
                # First, for it is what says that the epoch is over.
                self._save("last.keras", history)
                if row is self._best(history):
                    self._copy_last_to_best()
                self._write_table(history)
        self.history = history

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
        }

    @classmethod
    def from_config(cls, config: dict) -> "Checkpoint":
        return cls(**config)

    def _save(self, name, history):
        with self._replaced(name) as path:
            # Keras saves with the help of variables that the other processes don't
            # make.
            distribution = keras.distribution.distribution()
            keras.distribution.set_distribution(None)
            try:
                self.model.save(path)
            finally:
                keras.distribution.set_distribution(distribution)
            with zipfile.ZipFile(path, "a") as archive:
                archive.writestr(_HISTORY, json.dumps(history))
            self._check_nothing_is_lost()  # where the file system has no locks

    def _copy_last_to_best(self):
        with self._replaced("best.keras") as path:
            shutil.copyfile(self.directory / "last.keras", path)

    def _write_table(self, history):
        columns = dict.fromkeys(name for row in history for name in row)
        with (
            self._replaced("history.csv") as path,
            open(path, "w", newline="") as file,
        ):
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(history)

    @contextmanager
    def _replaced(self, name):
        """A path to write to; what is written there becomes the file in one step."""
        path = self.directory / name
        try:
            with files.replaced(path) as unfinished:
                yield unfinished
        except Exception as error:
            on_disk = _os_error(error)
            if on_disk is None:
                raise
            raise OSError(
                on_disk.errno, f"{on_disk.strerror or on_disk}; {path} stays as it was"
            ) from error


def _os_error(error: BaseException | None) -> OSError | None:
    """The error of the operating system that is behind an error, if one is."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def _read_history(path: Path) -> list[dict]:
    with _as_value_error(path):
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(_HISTORY).file_size > _MAX_HISTORY:
                raise ValueError(f"{_HISTORY} has more than {_MAX_HISTORY} bytes")
            history = json.loads(archive.read(_HISTORY))
        if not (isinstance(history, list) and history and all(map(_is_row, history))):
            raise ValueError(f"{_HISTORY} is no list of epochs")
    return history


def _is_row(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and "epoch" in row
        and all(isinstance(value, (int, float)) for value in row.values())
    )


def _check_whole(path: Path) -> None:
    """Raises an error if a file is not as `Checkpoint` wrote it, byte by byte."""
    with _as_value_error(path), zipfile.ZipFile(path) as archive:
        # Keras compresses nothing: what is more than the file is a trap.
        if sum(part.file_size for part in archive.infolist()) > path.stat().st_size:
            raise ValueError("it unpacks to more than its size")
        damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"{damaged} is damaged")


@contextmanager
def _as_value_error(path: Path) -> Iterator[None]:
    """What reading a file raises, as an error that names the file."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ValueError) and str(path) in str(error):
            raise
        raise ValueError(
            f"Argument `directory` holds no training to go on with: {path} is damaged "
            f"or was not written by Checkpoint ({type(error).__name__}: {error})."
        ) from error


def _check_same_optimizer(
    path: Path, kept: keras.optimizers.Optimizer, model: keras.Model
) -> None:
    optimizer = model.optimizer
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    found, expected = (
        f"{type(o).__name__} with {len(o.variables)} variables"
        for o in (kept, optimizer)
    )
    if found != expected:
        raise ValueError(
            f"{path} holds the state of another optimizer: {found}. "
            f"Expected: {expected}."
        )


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
    # Whether a layer has been called yet is no part of the architecture, nor is the
    # momentum of averages, which may depend on the number of batches.
    others = "build_config", "momentum"
    return json.loads(
        text, object_hook=lambda x: {k: x[k] for k in x if k not in others}
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
