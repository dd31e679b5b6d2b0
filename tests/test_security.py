"""Files and configs of strangers: what SECURITY.md and docs/export.md promise."""

import json
import re
import sys
import zipfile
from pathlib import Path

import keras
import pytest
from helpers import once, small_capsnet

from keras_capsules import callbacks, layers, models, routing
from keras_capsules.models import presets

ROOT = Path(__file__).parents[1]
FOREIGN = {
    "function": {
        "module": "os",
        "class_name": "function",
        "config": "system",
        "registered_name": "system",
    },
    "class": {"module": "os", "class_name": "system", "config": {"command": "true"}},
    "module": {"module": "antigravity", "class_name": "x", "config": {}},
    "built-in": {
        "module": "builtins",
        "class_name": "function",
        "config": "eval",
        "registered_name": "eval",
    },
    "download": {"module": "keras.utils", "class_name": "get_file", "config": {}},
    "lambda": {"class_name": "__lambda__", "config": {"value": ["", None, None]}},
    "no routing": {"module": "keras.layers", "class_name": "Flatten", "config": {}},
    "path": "os.system",
}


@pytest.fixture
def hostile(tmp_path):
    """A checkpoint whose model writes a file when it is called."""
    written = tmp_path / "written"
    name = str(written)
    program = keras.layers.Lambda(
        lambda x: (Path(name).touch(), x)[1], output_shape=(16, 14, 1)
    )
    images = keras.Input((16, 14, 1))
    model = keras.Model(images, program(images))
    model.compile("sgd", "mse")
    model.save(tmp_path / "last.keras")
    with zipfile.ZipFile(tmp_path / "last.keras", "a") as archive:
        archive.writestr("history.json", json.dumps([{"epoch": 1, "val_loss": 1.0}]))
    written.unlink(missing_ok=True)
    yield tmp_path
    assert not written.exists()


def test_no_load_path_of_ours_runs_a_lambda(hostile, monkeypatch):
    with pytest.raises(ValueError):
        callbacks.Checkpoint(hostile).restore(small_capsnet(decoder_units=None))
    monkeypatch.setattr(presets, "preset_file", lambda _: hostile / "last.keras")
    with pytest.raises(ValueError, match="arbitrary code"):
        models.CapsNet.from_preset("capsnet_mnist_small")
    with pytest.raises(ValueError, match="arbitrary code"):
        models.CapsNet.from_preset(hostile / "last.keras")


@once
@pytest.mark.parametrize("config", FOREIGN.values(), ids=list(FOREIGN))
def test_configs_of_other_things_are_neither_imported_nor_called(config):
    for load in (
        routing.get,
        lambda x: layers.DigitCapsule(3, routing=x),
        lambda x: layers.ConvCapsule.from_config({"capsules": 3, "routing": x}),
        lambda x: layers.DigitCapsule(3, kernel_initializer=x),
        lambda x: layers.DigitCapsule(3, kernel_regularizer=x),
        lambda x: layers.PrimaryCapsule(3, 4, bias_initializer=x),
    ):
        with pytest.raises((TypeError, ValueError)):
            load(config)
    assert "antigravity" not in sys.modules


@once
def test_a_preset_is_a_name_and_no_path():
    with pytest.raises(ValueError, match="preset"):
        models.Classifier.from_preset("../capsnet_mnist_small")


@once
def test_nothing_of_ours_turns_safe_mode_off():
    folders = ("keras_capsules", "examples", "experiments", "benchmarks")
    for path in (file for name in folders for file in (ROOT / name).rglob("*.py")):
        text = path.read_text()
        assert not re.search("safe_mode|enable_unsafe|pickle|allow_pickle", text), path
