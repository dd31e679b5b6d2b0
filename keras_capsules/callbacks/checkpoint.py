import csv
import json
import math
import os
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras

from keras_capsules import validation
from keras_capsules._backend import is_first_process

_HISTORY = "history.json"


@keras.saving.register_keras_serializable(package="keras_capsules")
class Checkpoint(keras.callbacks.Callback):
    """Keeps a training so that it can be stopped at any moment and go on.

    After every epoch three files in `directory` are replaced, each in one step,
    so that there is never half a file:

    - `last.keras`: the model, its optimizer and the history so far;
    - `best.keras`: the model of the best epoch;
    - `history.csv`: the history as a table.

    Where the optimizer averages the weights (`use_ema=True`) the models that are
    kept have the averages for weights. To validate with them as well add
    `keras.callbacks.SwapEMAWeights()`, without `swap_on_epoch`.

    Of a training in several processes (`keras.distribution`) only the first writes;
    all of them can `restore`, from a directory that they share.

    Args:
        directory: where the files go; made if it is missing.
        monitor: the quantity of `logs` that marks the best epoch.
        mode: whether its smallest value does, `"min"`, or its largest, `"max"`.

    Attributes:
        history: a dict for each finished epoch. `restore` fills it with those of
            the training that goes on.

    Raises:
        ValueError: `mode` is unknown, `directory` holds a training that goes on
            beyond `history`, or `monitor` is not among the logs of an epoch.

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
        """Gives a model the weights and the optimizer's state that are kept.

        A directory without a training changes nothing. The learning-rate schedule
        stays the one that the model is compiled with: another number of epochs
        can stretch it. No file is changed.

        Args:
            model: a compiled model of the architecture and with the kind of
                optimizer that are kept.

        Raises:
            ValueError: the model has another architecture or another optimizer.
        """
        history = self.history_of(self.directory)
        if history:
            path = self.directory / "last.keras"
            kept = keras.saving.load_model(path)
            _check_same_architecture(path, kept, model)
            _check_same_optimizer(path, kept.optimizer, model)
            model.load_weights(path)
            if _averages_weights(model):
                _swap_averages(model)
        self.history = history

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
                "lost. Call `restore(model)` to go on with it, or choose another "
                f"directory. Received: directory={self.directory}"
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
        with _averages_of(self.model):  # in all processes: they share the weights
            if is_first_process():
                self.directory.mkdir(parents=True, exist_ok=True)
                if row is self._best(history):
                    self._save("best.keras", history)
                self._write_table(history)
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

    def _write_table(self, history):
        path = self.directory / "history.csv"
        unfinished = path.with_name(f"unfinished-{path.name}")
        columns = dict.fromkeys(name for row in history for name in row)
        with open(unfinished, "w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(history)
        os.replace(unfinished, path)


@contextmanager
def _averages_of(model: keras.Model) -> Iterator[None]:
    """Within it the model has the averages that its optimizer keeps of its weights."""
    if not _averages_weights(model):
        yield
        return
    _swap_averages(model)
    try:
        yield
    finally:
        _swap_averages(model)


def _averages_weights(model: keras.Model) -> bool:
    # In half precision it is an optimizer within the one that scales the loss.
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    return getattr(optimizer, "use_ema", False)


def _swap_averages(model: keras.Model) -> None:
    swap = keras.callbacks.SwapEMAWeights()
    swap.set_model(model)
    swap.on_test_begin()


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
