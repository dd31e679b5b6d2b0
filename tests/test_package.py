import importlib
import inspect
import pkgutil
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers import once

import keras_capsules

ROOT = Path(__file__).parents[1]
ROOMS = {
    name: importlib.import_module(f"keras_capsules.{name}")
    for name in keras_capsules.__all__
}
PUBLIC = {
    f"{room}.{name}": getattr(module, name)
    for room, module in ROOMS.items()
    for name in module.__all__
}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_documented(name):
    text = inspect.getdoc(PUBLIC[name])
    first = text.splitlines()[0]
    assert first.endswith(".") and len(first) < 88
    assert "Attributes:" in text or "Example:" in text


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_typed(name):
    function = PUBLIC[name]
    if inspect.isclass(function):
        function = vars(function).get("__init__", lambda: None)
    parameters = inspect.signature(function).parameters.values()
    untyped = {p.name for p in parameters if p.annotation is p.empty}
    assert untyped <= {"self", "_cls"}


@pytest.mark.parametrize(
    "instance",
    [
        keras_capsules.layers.PrimaryCapsule(2, 4, (3, 2), 2, "same", "he_normal"),
        keras_capsules.layers.DigitCapsule(3, 5, kernel_regularizer="l2"),
        keras_capsules.layers.PrimaryCapsule(2, (4, 4)),
        keras_capsules.layers.ConvCapsule(3, 5, (3, 2), 2, "same", "dynamic"),
        keras_capsules.layers.EMRoutingCapsule(3, (4, 2), False),
        keras_capsules.layers.PoseNormalization(1e-2),
        keras_capsules.layers.CapsuleLength(),
        keras_capsules.layers.CapsuleMask(),
        *map(keras_capsules.routing.get, keras_capsules.routing.names()),
        keras_capsules.losses.MarginLoss(0.8, 0.2, 0.3, "sum", "loss", "float64"),
        keras_capsules.losses.SpreadLoss(0.3, "sum", "loss", "float64"),
        keras_capsules.metrics.ExactMatch(),
        keras_capsules.callbacks.Checkpoint("somewhere", "loss", "max"),
        keras_capsules.callbacks.SpreadMarginSchedule(0.1, 0.2, 0.8, 50),
    ],
    ids=lambda instance: type(instance).__name__,
)
def test_config_round_trip(instance):
    config = keras.saving.serialize_keras_object(instance)
    assert config["registered_name"] == f"keras_capsules>{type(instance).__name__}"
    again = keras.saving.deserialize_keras_object(config, safe_mode=True)
    assert again.get_config() == instance.get_config()


def test_every_class_of_keras_is_registered():
    for name, thing in PUBLIC.items():
        if inspect.isclass(thing) and hasattr(thing, "get_config"):
            registered = keras.saving.get_registered_name(thing)
            assert registered == f"keras_capsules>{thing.__name__}", name


def test_layers_make_a_sequential_model_that_is_saved_and_loaded(tmp_path):
    layers = keras_capsules.layers
    model = keras.Sequential(
        [
            keras.Input((20, 15, 3)),
            keras.layers.Conv2D(8, 5, activation="relu"),
            layers.PrimaryCapsule(4, 4, kernel_size=5, strides=2),
            layers.DigitCapsule(7, 6),
            layers.CapsuleLength(),
        ]
    )
    model.compile("adam", loss=keras_capsules.losses.MarginLoss(), metrics=["accuracy"])
    images, labels = np.random.rand(14, 20, 15, 3), np.arange(14) % 7
    model.fit(images, labels, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        again.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-6
    )


@pytest.mark.parametrize("way", ["saved", "cloned"])
def test_em_routing_in_a_functional_model_is_saved_and_cloned(way, tmp_path):
    layers = keras_capsules.layers
    images = keras.Input((12, 13, 2))
    x = layers.PrimaryCapsule(3, (4, 4), kernel_size=5, strides=2)(images)
    x = layers.ConvCapsule(4, kernel_size=2)(layers.PoseNormalization()(x))
    poses, activations = layers.EMRoutingCapsule(5)(x)
    x = layers.ConvCapsule(3, kernel_size=2, routing="dynamic")(x)
    _, others = layers.DigitCapsule(5, 6, routing="em")(layers.CapsuleLength()(x))
    model = keras.Model(images, [poses, activations, others])
    data = np.random.rand(4, 12, 13, 2)
    if way == "saved":
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
    else:
        again = keras.models.clone_model(model)
        again.set_weights(model.get_weights())
    for a, b in zip(
        model.predict(data, verbose=0), again.predict(data, verbose=0), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_layers_make_a_functional_model_with_a_decoder():
    layers = keras_capsules.layers
    images, labels = keras.Input((16, 16, 1)), keras.Input((), dtype="int32")
    poses = layers.PrimaryCapsule(2, 4, kernel_size=9, strides=2)(images)
    poses = layers.DigitCapsule(3, 6)(poses)
    masked = keras.layers.Flatten()(layers.CapsuleMask()(poses, labels))
    outputs = [layers.CapsuleLength()(poses), keras.layers.Dense(256)(masked)]
    model = keras.Model([images, labels], outputs)
    model.compile("adam", loss=[keras_capsules.losses.MarginLoss(), "mse"])
    x, y = np.random.rand(6, 16, 16, 1), np.arange(6) % 3
    model.fit([x, y], [y, x.reshape(6, 256)], verbose=0)


def test_the_layers_do_without_tensorflow_and_matplotlib():
    if keras.backend.backend() == "tensorflow":
        pytest.skip("Keras itself imports TensorFlow here")
    program = """
import sys
sys.modules.update(dict.fromkeys(["tensorflow", "matplotlib", "sklearn"]))
import numpy as np, keras_capsules
keras_capsules.layers.DigitCapsule(3)(np.zeros((2, 4, 8), "float32"))
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@once
def test_a_missing_extra_says_what_to_install():
    program = """
import sys
sys.modules.update(dict.fromkeys(["matplotlib", "sklearn"]))
import keras_capsules
for room in ("datasets", "plotting"):
    try:
        getattr(keras_capsules, room)
    except ModuleNotFoundError as error:
        assert "pip install" in str(error), error
    else:
        raise AssertionError(room)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_unknown_room():
    with pytest.raises(AttributeError, match="no attribute 'no_such_room'"):
        _ = keras_capsules.no_such_room


def test_tests_mirror_the_package():
    for module in pkgutil.walk_packages(keras_capsules.__path__, "keras_capsules."):
        *rooms, name = module.name.split(".")[1:]
        if not module.ispkg and name != "splits":
            path = ROOT.joinpath("tests", *rooms, f"test_{name.lstrip('_')}.py")
            assert path.exists(), path


def test_the_wheel_holds_the_package_its_presets_and_nothing_else(tmp_path):
    ignore = shutil.ignore_patterns(".*", "build", "dist", "runs", "*.egg-info")
    source = shutil.copytree(ROOT, tmp_path / "source", ignore=ignore)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", tmp_path],
        cwd=source,
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = ROOT / "keras_capsules"
    files = [*package.rglob("*.py"), package / "py.typed"]
    trained = keras_capsules.models.Classifier.preset_names()
    presets = {f"keras_capsules/presets/{name}/model.keras" for name in trained}
    assert names == {str(path.relative_to(ROOT)) for path in files} | presets
