import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import close, random_images, small_capsnet, small_matrix_capsnet

from keras_capsules import models
from keras_capsules.export.signatures import signatures
from keras_capsules.plotting.traces import class_trace

if keras.backend.backend() != "tensorflow":
    pytest.skip("only TensorFlow exports SavedModels", allow_module_level=True)


def specs(model):
    return {
        name: {spec.name: (spec.dtype, spec.shape) for spec in inputs}
        for name, (_, inputs) in signatures(model).items()
    }


def test_what_each_network_can_be_asked():
    shape, pixels = (None, 16, 14, 1), (None, 20, 19, 1)
    serving = {
        "serving_default": {"images": ("float32", shape)},
        "serving_uint8": {"images": ("uint8", shape)},
        "trace": {"images": ("float32", shape)},
    }
    assert specs(small_capsnet(decoder_units=None)) == serving
    assert specs(small_capsnet()) == {
        **serving,
        "reconstruct": {"images": ("float32", shape)},
        "decode": {"poses": ("float32", (None, 3, 6)), "classes": ("int32", (None,))},
    }
    assert specs(small_matrix_capsnet()) == {
        "serving_default": {"images": ("float32", pixels)},
        "serving_uint8": {"images": ("uint8", pixels)},
        "trace": {"images": ("float32", pixels)},
    }
    cnn = models.BaselineCNN((8, 8, 1), classes=3, filters=(2, 3), units=4)
    assert set(specs(cnn)) == {"serving_default", "serving_uint8"}


def test_a_network_that_scales_images_is_given_bytes():
    model = models.CapsuleClassifier(
        (9, 9, 3),
        2,
        backbone=models.residual_backbone((9, 9, 3), 2, 1),
        preprocess=keras.layers.Rescaling(1 / 255),
    )
    pixels = np.random.default_rng(0).integers(0, 256, (2, 9, 9, 3), "uint8")
    found = signatures(model)["serving_uint8"][0](pixels)
    close(found["scores"], model(pixels)["scores"])


def test_uint8_images_are_scaled():
    model = small_capsnet()
    asked = signatures(model)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 14, 1), "uint8")
    expected = asked["serving_default"][0](pixels.astype("float32") / 255.0)
    for name, value in asked["serving_uint8"][0](pixels).items():
        close(value, expected[name])
    inverted = signatures(model, lambda pixels: 1.0 - pixels / 255.0)
    negative = inverted["serving_uint8"][0](255 - pixels)
    close(negative["scores"], expected["scores"])


def test_uint8_images_may_have_another_shape():
    model = small_capsnet()
    asked = signatures(model, lambda pixels: pixels[:, 4:-4, 3:-3] / 255.0, (24, 20, 1))
    function, (spec,) = asked["serving_uint8"]
    assert spec.shape == (None, 24, 20, 1)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 24, 20, 1), "uint8")
    images = pixels[:, 4:-4, 3:-3].astype("float32") / 255.0
    close(function(pixels)["scores"], asked["serving_default"][0](images)["scores"])
    with pytest.raises(tf.errors.InvalidArgumentError, match="not compatible"):
        signatures(model)["serving_uint8"][0](pixels)


def test_decode_draws_the_class_it_is_asked_for():
    model = small_matrix_capsnet(decoder_units=(8,))
    poses = np.random.default_rng(0).normal(size=(2, 3, 4, 4)).astype("float32")
    drawn = signatures(model)["decode"][0](poses, np.array([2, 0], "int32"))
    close(drawn["pictures"][:1], model.decode(poses[:1], [2]))
    close(drawn["pictures"][1:], model.decode(poses[1:], [0]))


def test_trace_is_that_of_the_class_capsules():
    model = small_matrix_capsnet()
    images, _ = random_images(2, model.image_shape)
    trace = signatures(model)["trace"][0](images)
    expected = class_trace(model, images)
    assert set(trace) == set(expected)
    assert tuple(trace["weights"].shape[:3]) == (2, 2, 3)
    for name, value in trace.items():
        close(value, expected[name].swapaxes(0, 1))


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_every_output_is_float32(dtype):
    model = small_capsnet(dtype=dtype)
    asked = signatures(model)
    images = np.zeros((1, 16, 14, 1), "float32")
    drawn = asked["reconstruct"][0](images)["reconstructions"]
    picture = asked["decode"][0](model(images)["poses"], np.array([1]))["pictures"]
    assert drawn.dtype == picture.dtype == "float32"
