import shutil

import keras
import numpy as np
import pytest
from helpers import (
    close,
    compiled,
    random_images,
    small_capsnet,
    small_efficient_capsnet,
    small_matrix_capsnet,
)

from keras_capsules import datasets, losses, models, routing
from keras_capsules.models import presets

CLASSES = {
    preset: network
    for network in (
        models.CapsNet,
        models.CapsuleClassifier,
        models.EfficientCapsNet,
        models.MatrixCapsNet,
    )
    for preset in network.presets
}
OF_PAIRS = "capsule_classifier_multi_mnist"
# The largest has the decoder of the papers, 5.6 MB.
LARGEST = 7e6
MARGIN = ((0, 0), (4, 4), (4, 4), (0, 0))


def digits_of_others():
    """Digits that no preset was trained on, in the layout of MNIST."""
    images, labels = next(datasets.digits().test.batch(60).as_numpy_iterator())
    # Digits of MNIST leave a margin.
    images = keras.ops.pad(keras.ops.image.resize(images, (20, 20)), MARGIN)
    return keras.ops.convert_to_numpy(images), labels


@pytest.mark.parametrize("preset", CLASSES)
def test_presets_are_of_their_class(preset):
    model = CLASSES[preset].from_preset(preset)
    assert type(model) is CLASSES[preset]
    assert models.Classifier.from_preset(preset).count_params() == model.count_params()


@pytest.mark.parametrize("preset", [name for name in CLASSES if name != OF_PAIRS])
def test_presets_read_digits_they_never_saw(preset):
    images, labels = digits_of_others()
    scores = CLASSES[preset].from_preset(preset).predict(images, verbose=0)["scores"]
    assert np.mean(scores.argmax(-1) == labels) > 0.85


def test_a_preset_finds_two_digits_it_never_saw():
    pairs = datasets.OverlaidImages(digits_of_others(), 60, classes=10)
    images, labels = map(keras.ops.convert_to_numpy, pairs[0])
    model = models.Classifier.from_preset(OF_PAIRS)
    scores = model.predict(images, verbose=0)["scores"]
    found = scores >= np.sort(scores)[:, -2:-1]  # the two highest
    assert np.mean(found[labels == 1.0]) > 0.6  # 0.2 by chance


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
    model = CLASSES[preset].from_preset(preset)
    images = np.random.default_rng(0).random((3, *model.image_shape), "float32")
    pixels = (255.0 * images).astype("uint8")
    served = tf.saved_model.load(str(path)).signatures
    for signature, given, scaled in (
        ("serving_default", images, images),
        ("serving_uint8", pixels, pixels / np.float32(255.0)),
    ):
        outputs = served[signature](images=tf.constant(given))
        for name, value in model(scaled).items():
            np.testing.assert_allclose(outputs[name], value, rtol=1e-4, atol=1e-5)


def test_unknown_presets():
    for network, known in (
        (models.CapsNet, r"\('capsnet_mnist_small',\)"),
        (models.CapsuleClassifier, r"\('capsule_classifier_multi_mnist',\)"),
        (models.EfficientCapsNet, r"\('efficient_capsnet_mnist_paper',\)"),
        (models.MatrixCapsNet, r"\('matrix_capsnet_mnist_small',\)"),
        (models.BaselineCNN, r"\(\)"),
        (models.Classifier, r"\(.*'capsnet_mnist_small', .*'efficient_caps"),
    ):
        with pytest.raises(
            ValueError, match=f"`preset` must be one of {known}.*a .keras.*'mnist'"
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


def small_networks():
    return [
        small_capsnet(routing=routing.InvertedAttentionRouting()),
        small_efficient_capsnet(),
        small_matrix_capsnet(decoder_units=(8,)),
        models.CapsuleClassifier(
            (8, 8, 1),
            3,
            backbone=models.residual_backbone((8, 8, 1), width=4, blocks=1),
            primary_capsules=2,
        ),
        models.BaselineCNN((16, 14, 1), 3, filters=(2, 4), units=8),
    ]


@pytest.mark.parametrize("index", range(5))
def test_a_saved_network_gets_a_new_head(index, tmp_path):
    model = small_networks()[index]
    if not model.compiled:
        model.compile("adam", losses.MarginLoss())
    random = np.random.default_rng(0)
    images = random.random((4, *model.image_shape), "float32")
    for weight in model.weights:  # as if they were trained
        weight.assign_add(0.1 * random.random(weight.shape, "float32"))
    model.save_to_preset(tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["model.keras"]
    again = type(model).from_preset(tmp_path / "mine")
    assert not again.compiled
    for name, value in again(images).items():
        close(value, model(images)[name])

    # As many classes as before: nothing is kept by its shape alone.
    for classes in (3, 5):
        other = type(model).from_preset(tmp_path / "mine" / "model.keras", classes)
        assert other(images)["scores"].shape == (4, classes)
        for new, old in zip(other.layers, model.layers, strict=True):
            pairs = zip(new.get_weights(), old.get_weights(), strict=True)
            if new not in other.head:
                assert all(np.array_equal(*pair) for pair in pairs)
            elif new.trainable_weights:
                assert not all(np.array_equal(*pair) for pair in pairs)
        compiled(other, model.loss).fit(images, np.arange(4) % classes, verbose=0)


def test_a_preset_of_another_class(tmp_path):
    small_capsnet().save_to_preset(tmp_path)
    with pytest.raises(ValueError, match=r"must be a MatrixCapsNet.*is a CapsNet"):
        models.MatrixCapsNet.from_preset(tmp_path)


def test_a_repository_of_the_hugging_face_hub(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    model = small_capsnet()
    model.save(tmp_path / "capsnet.keras")
    shutil.unpack_archive(tmp_path / "capsnet.keras", tmp_path / "repository", "zip")
    asked = []

    def download(repo_id, **_):
        asked.append(repo_id)
        return str(tmp_path / "repository")

    monkeypatch.setattr(hub, "snapshot_download", download)
    images, _ = random_images(2)
    again = models.Classifier.from_preset("hf://someone/digits")
    close(again(images)["scores"], model(images)["scores"])
    assert asked == ["someone/digits"]


def test_a_network_that_was_adapted_by_lora(tmp_path):
    model = models.BaselineCNN((8, 8, 1), 3, filters=(2, 3), units=4)
    model.hidden.enable_lora(2)
    model.hidden.lora_kernel_b.assign(np.ones((2, 4), "float32"))
    model.save_to_preset(tmp_path)
    images = np.random.default_rng(0).random((2, 8, 8, 1), "float32")
    again = models.BaselineCNN.from_preset(tmp_path)
    close(again(images)["scores"], model(images)["scores"])
