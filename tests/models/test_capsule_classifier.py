import keras
import numpy as np
import pytest
from helpers import close

from keras_capsules import losses, models, routing
from keras_capsules.models.classifier import in_float32

SHAPE = (20, 24, 3)


def network(routing="uniform", **settings):
    settings = {"preprocess": keras.layers.Rescaling(1 / 255), **settings}
    settings.setdefault("backbone", models.residual_backbone(SHAPE, 4, 1))
    model = models.CapsuleClassifier(
        SHAPE, 3, primary_capsules=2, primary_pose_shape=4, routing=routing, **settings
    )
    optimizer = keras.optimizers.Adam(0.01)
    model.compile(optimizer, losses.MarginLoss(), metrics=["accuracy"])
    return model


class Unsaid(keras.layers.Layer):
    """A layer of which Keras doesn't know what it makes."""

    def call(self, images):
        return images


def photographs(count=12):
    """Bytes; the class is the brightest channel."""
    labels = np.arange(count) % 3
    images = np.random.default_rng(0).integers(0, 100, (count, *SHAPE), "uint8")
    images[np.arange(count), :, :, labels] += 100
    return images, labels


@pytest.mark.parametrize("name", routing.names())
def test_every_routing_scores_from_0_to_1(name):
    model = network(name)
    outputs = model(photographs()[0])
    scores = keras.ops.convert_to_numpy(outputs["scores"])
    assert scores.shape == (12, 3) and scores.min() >= 0.0 and scores.max() <= 1.0
    assert tuple(outputs["poses"].shape) == (12, 3, 16)


def test_bytes_are_learned_and_drawn():
    model = network(decoder_units=(8,))
    images, labels = photographs()
    history = model.fit(images, labels, epochs=12, verbose=0).history
    assert history["accuracy"][-1] == 1.0
    # Images from 0 to 1 have errors below 1.
    assert history["reconstruction_loss"][0] < 0.5
    assert tuple(model.reconstruct(images[:2]).shape) == (2, *SHAPE)


def test_the_scale_and_what_is_frozen_are_saved(tmp_path):
    model = network("self_attention", decoder_units=(8,))
    images, _ = photographs()
    model.backbone.trainable = False
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert not again.backbone.trainable and again.primary.trainable
    assert again.preprocess.scale == 1 / 255
    outputs = again.predict(images, verbose=0)
    for name, expected in model.predict(images, verbose=0).items():
        np.testing.assert_allclose(outputs[name], expected, rtol=1e-5, atol=1e-6)


def test_only_the_capsules_of_a_frozen_backbone_are_trained():
    model = network()
    model.backbone.trainable = False
    model.compile("sgd", losses.MarginLoss())
    before = [keras.ops.convert_to_numpy(x) for x in model.backbone.variables]
    kernel = keras.ops.convert_to_numpy(model.class_capsules.kernel)
    model.fit(*photographs(), verbose=0)
    for x, y in zip(model.backbone.variables, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(x), y)
    after = keras.ops.convert_to_numpy(model.class_capsules.kernel)
    assert np.abs(after - kernel).max() > 0.0


def test_any_layer_is_a_backbone():
    dense = keras.layers.Dense(5, activation="relu")
    model = network(backbone=dense, preprocess=None)
    # A grid of 20×24 needs strides of 3.
    assert model.primary.strides == (3, 3)
    copy = models.CapsuleClassifier.from_config(model.get_config())
    assert copy.backbone.units == 5 and copy.preprocess is None
    copy.set_weights(model.get_weights())
    images = photographs(2)[0] / 255.0
    close(copy(images)["scores"], model(images)["scores"])


def test_half_precision_reaches_the_backbone_and_leaves_for_export():
    backbone = models.residual_backbone(SHAPE, 4, 1, dtype="mixed_bfloat16")
    model = network(backbone=backbone, dtype="mixed_bfloat16")
    default = models.CapsuleClassifier(SHAPE, 3, dtype="mixed_bfloat16")
    assert default.backbone.layers[1].compute_dtype == "bfloat16"
    copy = in_float32(model)
    assert {layer.compute_dtype for layer in copy._flatten_layers()} == {"float32"}
    images = photographs(4)[0]
    close(copy(images)["scores"], model(images)["scores"], rtol=0.05, atol=0.02)


def test_the_format_of_images_elsewhere_does_not_matter():
    keras.config.set_image_data_format("channels_first")
    try:
        model = models.residual_backbone((96, 96, 3), 4, 1)
    finally:
        keras.config.set_image_data_format("channels_last")
    assert model.output_shape == (None, 6, 6, 16)


@pytest.mark.parametrize(
    ("size", "millions"), [(32, 2.2), (64, 2.2), (128, 2.2), (224, 4.1)]
)
def test_defaults_have_as_few_parameters_as_the_readme_says(size, millions):
    model = models.CapsuleClassifier((size, size, 3), 10)
    assert round(model.count_params() / 1e6, 1) == millions


def test_a_score_is_learned_where_lengths_say_nothing():
    model = network("inverted_attention", decoder_units=(8,))
    poses = keras.random.normal((4, 3, 16))
    best = keras.ops.argmax(model.score(poses)[..., 0], axis=-1)
    close(model.decode(poses), model.decode(poses, keras.ops.convert_to_numpy(best)))
    assert network().score is None and network("em").score is None


def test_the_default_backbone_takes_the_preprocessed_images():
    small = keras.layers.Resizing(16, 12)
    model = models.CapsuleClassifier((32, 24, 1), 3, preprocess=small)
    assert model.backbone.input_shape == (None, 16, 12, 1)
    assert model.predict(np.zeros((1, 32, 24, 1)), verbose=0)["scores"].shape == (1, 3)


@pytest.mark.parametrize(
    ("argument", "value", "reason"),
    [
        ("backbone", "resnet", "model or layer.* Received: 'resnet'"),
        ("preprocess", 255, "model or layer.* Received: 255"),
        ("backbone", keras.layers.Flatten(), r"include_top=False.*\(None, 1440\)"),
        ("backbone", models.residual_backbone((9, 9, 1), 2, 1), "take images of"),
        ("backbone", Unsaid(), "which says: .*compute_output_shape"),
        ("preprocess", keras.layers.Resizing(9, 9), r"reconstructs.*\(9, 9, 3\)"),
        (
            "preprocess",
            keras.Sequential([keras.layers.RandomFlip("horizontal")]),
            "must not be random .*data set",
        ),
    ],
)
def test_bad_arguments(argument, value, reason):
    with pytest.raises(ValueError, match=f"`{argument}` .*{reason}"):
        network(**{argument: value}, decoder_units=(8,))
