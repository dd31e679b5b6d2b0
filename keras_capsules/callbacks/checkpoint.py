import json
import os
import time
import zipfile
from pathlib import Path

import keras

_HISTORY = "history.json"


@keras.saving.register_keras_serializable(package="keras_capsules")
class Checkpoint(keras.callbacks.Callback):
    """Keeps a training so that it can be stopped at any moment and go on.

    After every epoch two files in `directory` are replaced, each in one step,
    so that there is never half a file:

    - `last.keras`: the model, its optimizer and the history so far;
    - `best.keras`: the model of the best epoch.

    Args:
        directory: where the files go; made if it is missing.
        monitor: the quantity of `logs` whose smallest value marks the best
            epoch.
        history: the epochs before this training, as `Checkpoint.load` returns
            them.

    Raises:
        ValueError: `monitor` is not among the logs of an epoch.

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
        history: list[dict] | None = None,
    ) -> None:
        super().__init__()
        self.directory = Path(directory)
        self.monitor = monitor
        self.history = list(history or [])

    @staticmethod
    def exists(directory: str | os.PathLike) -> bool:
        """Whether `directory` holds a training that can go on."""
        return (Path(directory) / "last.keras").exists()

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
        model = keras.saving.load_model(path)
        _check_same_architecture(path, model, like)
        with zipfile.ZipFile(path) as archive:
            return model, json.loads(archive.read(_HISTORY))

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        if self.monitor not in (logs or {}):
            raise ValueError(
                "Argument `monitor` must be one of the logs of an epoch, "
                f"{sorted(logs or {})}. Received: monitor={self.monitor!r}"
            )
        best = min((row[self.monitor] for row in self.history), default=float("inf"))
        seconds = time.perf_counter() - self._start
        row = {"epoch": epoch + 1, "seconds": seconds}
        self.history.append(row | {name: float(value) for name, value in logs.items()})
        self.directory.mkdir(parents=True, exist_ok=True)
        if self.history[-1][self.monitor] < best:
            self._save("best.keras")
        # Last, for it is what says that the epoch is over.
        self._save("last.keras")

    def get_config(self) -> dict:
        return {
            "directory": str(self.directory),
            "monitor": self.monitor,
            "history": self.history,
        }

    @classmethod
    def from_config(cls, config: dict) -> "Checkpoint":
        return cls(**config)

    def _save(self, name):
        path = self.directory / name
        unfinished = path.with_name(f"unfinished-{name}")
        self.model.save(unfinished)
        with zipfile.ZipFile(unfinished, "a") as archive:
            archive.writestr(_HISTORY, json.dumps(self.history))
        os.replace(unfinished, path)


def _check_same_architecture(path: Path, model: keras.Model, like: keras.Model) -> None:
    found, expected = _architecture(model), _architecture(like)
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
    """The config of a model without the names that Keras numbers."""

    def without_name(config):
        if "trainable" in config:
            config.pop("name", None)
        return config

    text = json.dumps({"class": type(model).__name__, **model.get_config()})
    return json.loads(text, object_hook=without_name)
