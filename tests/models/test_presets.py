import keras
import numpy as np
import pytest

from keras_capsules import datasets, models
from keras_capsules.models import presets

CLASSES = {
    preset: network
    for network in (models.CapsNet, models.EfficientCapsNet, models.MatrixCapsNet)
    for preset in network.presets
}
# The largest has the decoder of the papers, 5.6 MB.
LARGEST = 7e6
MARGIN = ((0, 0), (4, 4), (4, 4), (0, 0))


@pytest.mark.parametrize("preset", CLASSES)
def test_presets_read_digits_they_never_saw(preset):
    model = CLASSES[preset].from_preset(preset)
    assert type(model) is CLASSES[preset]
    assert models.Classifier.from_preset(preset).count_params() == model.count_params()
    images, labels = next(datasets.digits().test.batch(60).as_numpy_iterator())
    # Digits of MNIST leave a margin.
    images = keras.ops.pad(keras.ops.image.resize(images, (20, 20)), MARGIN)
    scores = model.predict(keras.ops.convert_to_numpy(images), verbose=0)["scores"]
    assert np.mean(scores.argmax(-1) == labels) > 0.85


@pytest.mark.parametrize("preset", CLASSES)
def test_presets_are_small_and_float32(preset):
    file = presets.preset_file(preset)
    assert file.stat().st_size < LARGEST
    model = keras.saving.load_model(file)
    assert not model.compiled and model.compute_dtype == "float32"


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="SavedModels are TensorFlow's"
)
@pytest.mark.parametrize("preset", CLASSES)
def test_the_savedmodel_is_the_same_network(preset):
    import tensorflow as tf

    path = presets.preset_file(preset).with_name("1")
    files = [file for file in path.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < LARGEST
    images = np.random.default_rng(0).random((3, 28, 28, 1), "float32")
    served = tf.saved_model.load(str(path)).signatures["serving_default"]
    outputs = served(images=tf.constant(images))
    for name, value in CLASSES[preset].from_preset(preset)(images).items():
        np.testing.assert_allclose(outputs[name], value, atol=1e-5)


def test_unknown_presets():
    for network, known in (
        (models.CapsNet, r"\('capsnet_mnist_small',\)"),
        (models.EfficientCapsNet, r"\('efficient_capsnet_mnist_paper',\)"),
        (models.MatrixCapsNet, r"\('matrix_capsnet_mnist_small',\)"),
        (models.BaselineCNN, r"\(\)"),
        (models.Classifier, r"\(.*'capsnet_mnist_small', .*'efficient_caps"),
    ):
        with pytest.raises(
            ValueError, match=f"`preset` must be one of {known}.*'mnist'"
        ):
            network.from_preset("mnist")
    with pytest.raises(ValueError, match="preset='capsnet_mnist_small'"):
        models.MatrixCapsNet.from_preset("capsnet_mnist_small")


def test_a_network_derived_from_another_has_none_of_its_presets():
    class Mine(models.CapsNet):
        pass

    with pytest.raises(ValueError, match=r"`preset` must be one of \(\)"):
        Mine.from_preset("capsnet_mnist_small")


def test_a_package_without_presets_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.setattr(presets, "_FOLDERS", (tmp_path,))
    with pytest.raises(FileNotFoundError, match=f"is in none of .*{tmp_path}"):
        models.CapsNet.from_preset("capsnet_mnist_small")


def test_an_installed_package_has_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(presets, "_FOLDERS", (tmp_path / "no", tmp_path))
    file = tmp_path / "capsnet_mnist_small" / "model.keras"
    file.parent.mkdir()
    file.touch()
    assert presets.preset_file("capsnet_mnist_small") == file
