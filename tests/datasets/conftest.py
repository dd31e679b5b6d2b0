from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

# But for those on a device they are tf.data whatever the backend: once is enough.
collect_ignore = [
    path.name
    for path in Path(__file__).parent.glob("test_*.py")
    if path.name != "test_device.py" and keras.backend.backend() != "tensorflow"
]

LABELS = np.arange(40) % 10


class FakeBuilder:
    """Stands in for a builder of TFDS: 40 squares whose brightness is the class."""

    def __init__(self, name="mnist", downloads=True):
        self.name, self.downloads = name, downloads
        self.data_dir = f"nowhere/{name}/3.0.1"

    def download_and_prepare(self):
        if not self.downloads:
            raise ConnectionError("no network")

    def as_dataset(self, split, as_supervised):
        assert split == ["train[:-5000]", "train[-5000:]", "test"] and as_supervised
        shape = (28, 28, 1) if "mnist" in self.name else (32, 32, 3)
        images = np.zeros((40, *shape), "uint8")
        images[:, 4:24, 4:24] = 20 * (LABELS + 1)[:, None, None, None]
        labels = LABELS.astype("int64")
        return [tf.data.Dataset.from_tensor_slices((images, labels))] * 3


@pytest.fixture
def fake_data(monkeypatch):
    monkeypatch.setattr(tfds, "builder", lambda name, data_dir: FakeBuilder(name))


@pytest.fixture
def no_data(monkeypatch):
    def builder(name, data_dir):
        return FakeBuilder(name, downloads=False)

    monkeypatch.setattr(tfds, "builder", builder)
