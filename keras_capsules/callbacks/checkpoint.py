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
import numpy as np

from keras_capsules import files, validation
from keras_capsules._backend import is_first_process, seed_generators
from keras_capsules.callbacks import interruptions
from keras_capsules.callbacks._averages import (
    averages_of,
    averages_weights,
    swap_averages,
)
from keras_capsules.callbacks.directory_lock import lock, unlock

_HISTORY = "history.json"
_MAX_HISTORY = 32 << 20  # bytes, of more than 100,000 epochs
_SEEDS = "seeds.json"


@keras.saving.register_keras_serializable(package="keras_capsules")
class Checkpoint(keras.callbacks.Callback):
    """Saves the model and its training state after each epoch, to resume later.

    After every epoch the callback writes `last.keras` and `history.csv` in `directory`,
    and `best.keras` if the epoch is the best. Each file is first written to the disk
    under another name and then renamed, so that there is never an incomplete file:

    - `last.keras`: the model, its optimizer and the history so far;
    - `best.keras`: a copy of the `last.keras` of the best epoch;
    - `history.csv`: the history as a table.

    `last.keras` is written first. If the process is killed before the other two files
    are written, they are written when the training is resumed. Ctrl-C takes effect
    after a save is complete.

    If the optimizer averages the weights (`use_ema=True`), the saved models contain the
    averages instead of the weights. To validate with the averages as well, add
    `keras.callbacks.SwapEMAWeights()`, without `swap_on_epoch`.

    If several processes train together (`keras.distribution`), only the first one
    writes. All of them can `restore`, from a directory that they share. While a
    training runs, `fit` raises an error in other processes with the same `directory`.

    Args:
        directory: directory of the files, created if it is missing.
        monitor: name of the quantity in `logs` that selects the best epoch.
        mode: `"min"` if the smallest value is the best, `"max"` if the largest is.

    Attributes:
        history: a list with a dict for each finished epoch: its number `epoch`, counted
            from 1, its duration `seconds`, and its logs. A metric of several values is
            numbered: `f1_score_0`, `f1_score_1`, … `restore` fills the list with the
            epochs of the saved training.

    Raises:
        OSError: a file can't be written. The previous file stays unchanged.
        ValueError: `mode` is unknown. In `fit`: `directory` can't be written, another
            process trains there, it holds a training with more epochs than `history`,
            or `best.keras` is missing or of another epoch and can't be replaced; or
            `monitor` is not among the logs of an epoch.

    Example:

    ```python
    checkpoint = callbacks.Checkpoint("runs/mnist")
    checkpoint.restore(model)  # in another process, after 4 epochs
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
        """Restores the saved weights, the state of the optimizer and the history.

        If the directory holds no training, the model is unchanged. A schedule of the
        learning rate is not restored: the model keeps the one that it is compiled with,
        which may be for another number of epochs. A learning rate that is a number is
        part of the optimizer's state. Random layers of the model, such as dropout, go
        on with their next numbers. No file is changed.

        Args:
            model: a compiled model with the same architecture and the same kind of
                optimizer as the saved model.

        Raises:
            ValueError: the model is not compiled, has another architecture or another
                optimizer than the saved model, or the file is damaged or was not
                written by this callback.
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
                _restore_seeds(path, model)
            if averages_weights(model):
                swap_averages(model)
        self.history = history

    @staticmethod
    def history_of(directory: str | os.PathLike) -> list[dict]:
        """Reads the history of a saved training without loading its model.

        Args:
            directory: the directory of the training.

        Returns:
            A list with a dict for each finished epoch, empty if the directory holds no
            training.

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
        """The best epoch, a dict of `history`; `None` before the first epoch."""
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
        # The folders of `files.replaced`. Those of exports have a longer name.
        for path in self.directory.glob("unfinished-" + 8 * "[!-]"):
            shutil.rmtree(path, ignore_errors=True)
        if self.history:
            self._find_best()
            self._write_table(self.history)

    def _check_nothing_is_lost(self):
        kept = len(self.history_of(self.directory))
        if kept > len(self.history):
            raise ValueError(
                f"Argument `directory` holds a training of {kept} epochs that would be "
                "lost. Call `restore(model)` to resume it, or choose another "
                f"directory. Received: directory={self.directory}"
            )

    def _check_monitor(self, logs):
        if self.monitor not in logs:
            raise ValueError(
                "Argument `monitor` must be one of the logs of an epoch, "
                f"{sorted(logs)}. Received: monitor={self.monitor!r}"
            )

    def _find_best(self):
        """Checks that `best.keras` holds the best epoch.

        The file is written if the best epoch is the last one: the process may have been
        killed before it wrote the file.
        """
        path = self.directory / "best.keras"
        best = self._best(self.history)
        try:
            _check_whole(path)
            kept = _read_history(path)[-1]
            reason = f"it holds epoch {kept['epoch']}"
        except (OSError, ValueError, KeyError) as error:
            kept, reason = None, str(error)
        # Compared as text, because NaN is not equal to itself.
        if json.dumps(kept) == json.dumps(best):
            return
        if best is not self.history[-1]:
            raise ValueError(
                f"{path} must hold epoch {best['epoch']}, the best by "
                f"{self.monitor!r}, mode {self.mode!r}, but {reason}. Choose another "
                "directory, or the `monitor` and `mode` that were used before."
            )
        self._copy_last_to_best()

    def _keep(self, row, logs):
        logs = _numbers(logs)
        self._check_monitor(logs)
        row |= logs
        history = [*self.history, row]
        with averages_of(self.model):  # in all processes, which share the weights
            if is_first_process():
                self.directory.mkdir(parents=True, exist_ok=True)
                # Written first, because `restore` reads the finished epochs from it.
                self._save("last.keras", history)
                if row is self._best(history):
                    self._copy_last_to_best()
                self._write_table(history)
        self.history = history

    def _best(self, history):
        return min(history, key=self._rank)

    def _rank(self, row):
        self._check_monitor(row)
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
            # Keras creates variables while it saves. Under the distribution the other
            # processes would have to create them too.
            distribution = keras.distribution.distribution()
            keras.distribution.set_distribution(None)
            try:
                self.model.save(path)
            finally:
                keras.distribution.set_distribution(distribution)
            with zipfile.ZipFile(path, "a") as archive:
                archive.writestr(_HISTORY, json.dumps(history))
                archive.writestr(_SEEDS, json.dumps(_seeds_of(self.model)))
            # On a file system without locks another process may train here.
            self._check_nothing_is_lost()

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
        """Yields a temporary path for a file that replaces `name` atomically."""
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
    """Returns the operating system's error that caused an error, or `None`."""
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
            raise ValueError(f"{_HISTORY} is not a list of epochs")
    return history


def _numbers(logs: dict) -> dict[str, float]:
    """Returns logs as floats; a metric of several values becomes several metrics."""
    found = {}
    for name, value in logs.items():
        if np.ndim(value) == 0:
            found[name] = float(value)
            continue
        values = keras.ops.convert_to_numpy(value).ravel()
        found |= {f"{name}_{index}": float(x) for index, x in enumerate(values)}
    return found


def _seeds_of(model: keras.Model) -> list[list[int]]:
    """Returns the states of the generators, which Keras does not save."""
    states = [generator.state for generator in seed_generators(model)]
    return [keras.ops.convert_to_numpy(state).tolist() for state in states]


def _restore_seeds(path: Path, model: keras.Model) -> None:
    with zipfile.ZipFile(path) as archive:
        if _SEEDS not in archive.namelist():  # of an earlier version
            return
        states = json.loads(archive.read(_SEEDS))
    for generator, state in zip(seed_generators(model), states, strict=True):
        generator.state.assign(np.array(state, "uint32"))


def _is_row(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and "epoch" in row
        and all(isinstance(value, (int, float)) for value in row.values())
    )


def _check_whole(path: Path) -> None:
    """Raises an error if a file is damaged or unpacks to more than its size."""
    with _as_value_error(path), zipfile.ZipFile(path) as archive:
        # Keras does not compress: a file that unpacks to more is a zip bomb.
        if sum(part.file_size for part in archive.infolist()) > path.stat().st_size:
            raise ValueError("it unpacks to more than its size")
        damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"{damaged} is damaged")


@contextmanager
def _as_value_error(path: Path) -> Iterator[None]:
    """Converts errors in reading a file to a ValueError that names the file."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ValueError) and str(path) in str(error):
            raise
        raise ValueError(
            f"Argument `directory` holds no training to resume: {path} is damaged "
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
    """Returns the config of a model, with its layer names replaced by numbers.

    Keras numbers the default names of layers, so that they differ between two models.
    """
    config = {"class": type(model).__name__, **model.get_config()}
    text = json.dumps(config, default=keras.saving.serialize_keras_object)
    config = json.loads(text)
    names = dict.fromkeys(_names(config))
    return _numbered(config, {name: f"#{index}" for index, name in enumerate(names)})


# Keys of a config whose values hold the names of layers.
_NAMED = "name", "inbound_nodes", "input_layers", "output_layers"
# Not part of the architecture: `build_config` depends on whether a layer has been
# called, and the momentum may depend on the number of batches.
_OTHERS = "build_config", "momentum"


def _numbered(config: Any, numbers: dict, named: bool = False) -> Any:
    """Replaces the names of layers in a config."""
    if isinstance(config, dict):
        return {
            key: _numbered(value, numbers, named or key in _NAMED)
            for key, value in config.items()
            if key not in _OTHERS
        }
    if isinstance(config, list):
        return [_numbered(value, numbers, named) for value in config]
    return numbers.get(config, config) if named and isinstance(config, str) else config


def _flat(config: dict | list, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the settings of a nested config, each with its dotted name."""
    items = config.items() if isinstance(config, dict) else enumerate(config)
    for key, value in items:
        layers = isinstance(value, list) and isinstance(next(iter(value), 0), dict)
        if layers or isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _names(config: Any) -> Iterator[str]:
    """Yields the names of all layers in a config, in their order."""
    if isinstance(config, dict):
        for key, value in config.items():
            if key == "name" and value:
                yield value
            elif key != "dtype":  # a dtype policy has a name too
                yield from _names(value)
    elif isinstance(config, list):
        for value in config:
            yield from _names(value)
