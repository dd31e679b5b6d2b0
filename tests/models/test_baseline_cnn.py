import keras
import numpy as np
import pytest
from helpers import POLICIES, close, finite, random_images

from keras_capsules import models

IMAGE_SHAPE = (10, 9, 2)


def small(image_shape=IMAGE_SHAPE, classes=3, **kwargs):
    settings = {"filters": (4, 6), "kernel_size": 3, "units": 16, "dropout": 0.2}
    model = models.BaselineCNN(image_shape, classes, **{**settings, **kwargs})
    model.compile(
        keras.optimizers.Adam(0.01),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def test_the_network_of_the_paper_has_its_parameters():
    convolutions = 25 * 32 + 32 + 25 * 32 * 64 + 64
    dense = 8 * 8 * 64 * 1024 + 1024 + 1024 * 5 + 5
    model = models.BaselineCNN((32, 32, 1), classes=5)
    assert model.count_params() == convolutions + dense == 4_252_549
    stereo = models.BaselineCNN((32, 32, 2), classes=5)
    assert stereo.count_params() == 4_252_549 + 25 * 32


def test_the_layers_of_the_paper():
    images, _ = random_images(2)
    model = models.BaselineCNN((16, 14, 1), 3, (4, 6), 5, 8)
    x = images
    weights = iter(model.get_weights())
    for _ in range(2):
        x = keras.ops.conv(x, next(weights), padding="same") + next(weights)
        x = keras.ops.max_pool(keras.ops.relu(x), 2, strides=2)
    x = keras.ops.reshape(x, (2, -1))
    x = keras.ops.relu(x @ next(weights) + next(weights))
    x = keras.ops.softmax(x @ next(weights) + next(weights))
    close(model(images)["scores"], x)


@pytest.mark.parametrize("image_shape", [(4, 4, 1), (9, 16, 3)])
def test_any_image_size_and_channels(image_shape):
    model = small(image_shape)
    images, labels = random_images(4, image_shape)
    model.fit(images, labels, verbose=0)
    scores = model.predict(images, verbose=0)["scores"]
    assert scores.shape == model.compute_output_shape((4, *image_shape))["scores"]
    np.testing.assert_allclose(scores.sum(-1), 1.0, rtol=1e-4)


def test_fit_learns_to_tell_images_apart():
    model = small()
    images, labels = random_images(24, IMAGE_SHAPE)
    images *= 0.1
    for image, label in zip(images, labels, strict=True):
        image[3 * label : 3 * label + 3] += 0.9
    history = model.fit(images, labels, epochs=20, batch_size=8, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert model.evaluate(images, labels, verbose=0)[1] > 0.9


def test_it_is_a_layer_of_other_models():
    images = keras.Input(IMAGE_SHAPE)
    scores = small()(images, training=False)["scores"]
    assert keras.Model(images, scores).output_shape == (None, 3)


def test_units_are_dropped_in_training_only():
    model = small(dropout=0.5)
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    images, labels = random_images(8, IMAGE_SHAPE)
    whole = model.evaluate(images, labels, verbose=0)
    assert model.evaluate(images, labels, verbose=0) == whole
    (loss,) = model.fit(images, labels, verbose=0).history["loss"]
    assert loss != pytest.approx(whole, rel=1e-3)


@pytest.mark.parametrize("policy", POLICIES[1:])
def test_precision_belongs_to_the_model(policy, tmp_path):
    model = small(dtype=policy)
    model.train_on_batch(*random_images(4, IMAGE_SHAPE))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for layer in (*again.features, again.hidden, again.drop):
        assert layer.dtype_policy.name == policy
    assert again.probabilities.dtype_policy.name == "float32"
    scores = again(random_images(4, IMAGE_SHAPE)[0])["scores"]
    assert keras.backend.standardize_dtype(scores.dtype) == "float32"
    assert finite(scores)


def test_saved_and_loaded(tmp_path):
    model = small(dropout=0.0)
    images, labels = random_images(8, IMAGE_SHAPE)
    model.fit(images, labels, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert again.get_config() == model.get_config()
    close(again(images)["scores"], model(images)["scores"])
    # Its optimizer goes on where it was.
    losses = [m.fit(images, labels, shuffle=False, verbose=0) for m in (model, again)]
    assert losses[0].history == losses[1].history


def test_config_round_trip():
    model = models.BaselineCNN((12, 9, 2), 4, (3, 5), (3, 2), 7, 0.25, name="cnn")
    again = models.BaselineCNN.from_config(model.get_config())
    assert again.get_config() == model.get_config()
    assert [w.shape for w in again.weights] == [w.shape for w in model.weights]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("input_shape", {"image_shape": (3, 8, 1)}),
        ("classes", {"classes": 0}),
        ("filters", {"filters": 32}),
        ("filters", {"filters": (32, 64, 64)}),
        ("kernel_size", {"kernel_size": 0}),
        ("units", {"units": 0}),
        ("dropout", {"dropout": 1.0}),
        ("dropout", {"dropout": -0.1}),
    ],
)
def test_bad_argument(name, settings):
    with pytest.raises(ValueError, match=f"`{name}`"):
        small(**settings)
