import keras
import numpy as np
import pytest
from helpers import random_images, small_capsnet, small_matrix_capsnet

from keras_capsules import models, routing

IMAGE_SHAPE = (8, 6, 2)
on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="converted from TensorFlow"
)


class Linear(models.Classifier):
    def __init__(self, input_shape, classes, **kwargs):
        super().__init__(input_shape, classes, **kwargs)
        self.flatten = keras.layers.Flatten(dtype=self.dtype_policy)
        self.dense = keras.layers.Dense(classes, dtype=self.variable_dtype)

    def call(self, images):
        pixels = self.flatten(images)
        return {"scores": self.dense(pixels), "pixels": pixels}

    def compute_output_shape(self, input_shape):
        pixels = (input_shape[0], np.prod(input_shape[1:]))
        return {**super().compute_output_shape(input_shape), "pixels": pixels}


def linear(**kwargs):
    model = Linear(IMAGE_SHAPE, 3, **kwargs)
    model.compile("adam", "mse", metrics=["accuracy"])
    return model


def test_losses_and_metrics_see_the_scores():
    model = linear()
    images, labels = random_images(8, IMAGE_SHAPE)
    one_hot = np.eye(3)[labels]
    results = model.evaluate(images, one_hot, verbose=0, return_dict=True)
    scores = model.predict(images, verbose=0)["scores"]
    assert results["loss"] == pytest.approx(np.mean((scores - one_hot) ** 2), rel=1e-4)
    assert results["accuracy"] == pytest.approx(np.mean(scores.argmax(-1) == labels))
    history = model.fit(images, one_hot, epochs=3, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]


def test_labels_are_checked_before_a_step_is_compiled():
    model = linear()
    images, labels = random_images(8, IMAGE_SHAPE)
    for method in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match="`y` holds the label 3"):
            method(images, labels * 0 + 3)
        with pytest.raises(ValueError, match="`y` must have shape"):
            method(images, np.zeros((8, 4)))
    for method in (model.train_on_batch, model.test_on_batch):
        with pytest.raises(ValueError, match="`y` holds the label 3"):
            method(images, labels * 0 + 3)


@on_tensorflow
@pytest.mark.parametrize("form", ["fit", "data set", "batch"])
def test_a_step_is_compiled_once(form):
    import tensorflow as tf

    steps = []

    class Counted(Linear):
        def train_step(self, data):
            steps.append(data)
            return super().train_step(data)

    model = Counted(IMAGE_SHAPE, 3)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    images, labels = random_images(8, IMAGE_SHAPE)
    if form == "fit":
        model.fit(images, labels, 8, verbose=0)
    elif form == "data set":
        data = tf.data.Dataset.from_tensors((images, labels)).repeat(2)
        model.fit(data, verbose=0)
    else:
        model.train_on_batch(images, labels)
    assert len(steps) == 1


@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_labels_are_missing(method):
    model = Linear(IMAGE_SHAPE, 3)
    model.compile("sgd", "mse")
    images, _ = random_images(4, IMAGE_SHAPE)
    with pytest.raises(ValueError, match="`y` must hold the labels"):
        getattr(model, method)(images, verbose=0)


def test_a_model_that_is_not_compiled_says_so():
    images, labels = random_images(4, IMAGE_SHAPE)
    with pytest.raises(ValueError, match="call `compile\\(\\)`"):
        Linear(IMAGE_SHAPE, 3).fit(images, labels)


@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="a loss on JAX is always traced"
)
def test_an_eager_step_stays_eager():
    def loss(y, scores):
        values.append(keras.ops.convert_to_numpy(keras.ops.stop_gradient(scores)))
        return keras.ops.mean(keras.ops.square(scores))

    values, model = [], Linear(IMAGE_SHAPE, 3)
    model.compile("sgd", loss, run_eagerly=True)
    model.fit(*random_images(4, IMAGE_SHAPE))
    assert np.isfinite(values[0]).all()


def test_images_of_another_shape():
    with pytest.raises(ValueError, match="incompatible with the layer"):
        linear()(random_images(2, (6, 8, 2))[0])


def test_symbolic_outputs_are_like_the_real_ones():
    model = linear(dtype="mixed_bfloat16")
    symbolic = model(keras.Input(IMAGE_SHAPE, batch_size=4))
    real = model(random_images(4, IMAGE_SHAPE)[0])
    for name, tensor in real.items():
        assert symbolic[name].shape == tuple(tensor.shape)
        assert symbolic[name].dtype == keras.backend.standardize_dtype(tensor.dtype)


@pytest.mark.parametrize("name", ["capsnet", "attention", "matrix", "cnn"])
def test_a_network_can_be_built_again(name):
    model = {
        "capsnet": small_capsnet,
        "attention": lambda: small_capsnet(routing="inverted_attention"),
        "matrix": small_matrix_capsnet,
        "cnn": lambda: models.BaselineCNN((8, 8, 1), 3, filters=(2, 3), units=4),
    }[name]()
    before = model.get_weights()
    model.build((None, *model.image_shape))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


def test_config_round_trip():
    config = linear(name="line").get_config()
    assert config["input_shape"] == IMAGE_SHAPE and config["classes"] == 3
    assert Linear.from_config(config).get_config() == config


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [("input_shape", (8, 8), 3), ("input_shape", 8, 3), ("classes", (8, 8, 1), 0)],
)
def test_bad_argument(name, shape, classes):
    with pytest.raises(ValueError, match=f"`{name}`"):
        models.Classifier(shape, classes)


def run_onnx(path, images):
    from onnxruntime import InferenceSession

    session = InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"images": images}), strict=True))


def run_litert(path, images):
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(str(path)).get_signature_runner()(images=images)


RUN = {"onnx": run_onnx, "litert": run_litert}
SUFFIX = {"onnx": "onnx", "litert": "tflite"}


@on_tensorflow
@pytest.mark.parametrize("format", RUN)
@pytest.mark.parametrize("preset", models.Classifier.preset_names())
def test_other_runtimes_give_the_same(tmp_path, preset, format):
    model = models.Classifier.from_preset(preset)
    images, _ = random_images(7, model.image_shape)
    expected = model.predict(images, verbose=0)
    path = tmp_path / f"network.{SUFFIX[format]}"
    model.export(path, format=format, verbose=False)
    for count in (1, 7):
        found = RUN[format](path, images[:count])
        assert set(found) == set(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value[:count], atol=1e-4)


@on_tensorflow
@pytest.mark.parametrize("format", RUN)
def test_other_runtimes_take_more_than_a_block(tmp_path, format):
    model = small_capsnet(routing=routing.DynamicRouting(block=2))
    images, _ = random_images(5, model.image_shape)
    expected = model.predict(images, verbose=0)
    path = tmp_path / f"network.{SUFFIX[format]}"
    model.export(path, format=format, verbose=False)
    for count in (1, 4, 5):
        found = RUN[format](path, images[:count])
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value[:count], atol=1e-5)


@on_tensorflow
@pytest.mark.parametrize("format", RUN)
def test_half_precision_is_exported_in_float32(tmp_path, format):
    model = small_capsnet(dtype="mixed_bfloat16")
    whole = models.CapsNet.from_config({**model.get_config(), "dtype": "float32"})
    whole.set_weights(model.get_weights())
    images, _ = random_images(2, model.image_shape)
    path = tmp_path / f"network.{SUFFIX[format]}"
    model.export(path, format=format, verbose=False)
    scores = whole.predict(images, verbose=0)["scores"]
    np.testing.assert_allclose(RUN[format](path, images)["scores"], scores, atol=1e-5)
    assert model.compute_dtype == "bfloat16"


def by_name(name):
    """Arguments of `compile` and labels, keyed by output or not."""
    images, labels = random_images(6, IMAGE_SHAPE)
    loss, one_hot = "mse", np.eye(3)[labels]
    return {
        "neither": (images, one_hot, loss),
        "loss": (images, one_hot, {"scores": loss}),
        "nothing for others": (images, one_hot, {"scores": loss, "pixels": None}),
        "labels": (images, {"scores": one_hot}, loss),
        "both": (images, {"scores": one_hot}, {"scores": loss}),
    }[name]


@pytest.mark.parametrize("name", ["loss", "nothing for others", "labels", "both"])
def test_losses_and_labels_by_the_name_of_the_output(name):
    model, results = linear(), []
    for way in ("neither", name):
        images, labels, loss = by_name(way)
        weight = np.arange(6.0)
        if isinstance(labels, dict):
            weight = {"scores": weight}
        model.compile("adam", loss, metrics=["accuracy"])
        results.append(
            model.evaluate(
                images, labels, sample_weight=weight, verbose=0, return_dict=True
            )
        )
    assert results[0] == pytest.approx(results[1])
    model.fit(images, labels, validation_data=(images, labels), verbose=0)


def test_labels_of_another_output():
    images, labels = random_images(6, IMAGE_SHAPE)
    with pytest.raises(ValueError, match=r"`y` must hold .* a dict with \['digits'\]"):
        linear().fit(images, {"digits": labels})


@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch"])
def test_several_inputs_or_outputs_are_refused_by_name(method):
    images, labels = random_images(6, IMAGE_SHAPE)
    model = small_capsnet(IMAGE_SHAPE, kernel_size=3)
    for x in (images, [images, labels]):
        with pytest.raises(ValueError, match="`y` must be one array"):
            getattr(model, method)(x, [labels, images])
    with pytest.raises(ValueError, match="`x` must be one array"):
        getattr(model, method)([images, labels], labels)


def test_held_out_labels_are_checked_before_the_first_epoch():
    model = linear()
    images, labels = random_images(6, IMAGE_SHAPE)
    with pytest.raises(ValueError, match="`validation_data` holds the label 3"):
        model.fit(images, labels, validation_data=(images, labels * 0 + 3))


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float64"])
def test_images_of_every_dtype(dtype):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 20, 20, 1)).astype(dtype)
    networks = (
        small_capsnet((20, 20, 1)),
        small_matrix_capsnet((20, 20, 1)),
        models.BaselineCNN((20, 20, 1), 3, filters=(2, 2), units=4),
    )
    for model in networks:
        found, expected = (
            model.predict_on_batch(x)["scores"]
            for x in (pixels, pixels * np.float32(1))
        )
        np.testing.assert_allclose(found, expected, atol=1e-5)


@on_tensorflow
def test_images_of_unknown_size():
    import tensorflow as tf

    images, labels = random_images(6, (20, 19, 1))
    networks = (
        small_capsnet((20, 19, 1)),
        small_matrix_capsnet(decoder_units=(8,)),
        models.BaselineCNN((20, 19, 1), 3, filters=(2, 2), units=4),
    )
    networks[2].compile("adam", "sparse_categorical_crossentropy")

    def batches(images):
        spec = tf.TensorSpec((None, None, None, 1)), tf.TensorSpec((None,), tf.int64)
        pairs = [(images, labels)]
        return tf.data.Dataset.from_generator(lambda: pairs, output_signature=spec)

    for model in networks:
        model.run_eagerly = False
        expected = model.evaluate(images, labels, verbose=0, return_dict=True)
        found = model.evaluate(batches(images), verbose=0, return_dict=True)
        assert found == pytest.approx(expected, rel=1e-4)
        model.fit(batches(images), verbose=0)
        with pytest.raises(tf.errors.InvalidArgumentError, match="expected shape"):
            model.evaluate(batches(images.swapaxes(1, 2)), verbose=0)


def test_hdf5_files(tmp_path):
    images, _ = random_images(2)
    for model in (small_capsnet(), models.BaselineCNN((16, 14, 1), 3, units=4)):
        model.save(tmp_path / "model.h5")
        again = keras.saving.load_model(tmp_path / "model.h5")
        found, expected = (m.predict_on_batch(images)["scores"] for m in (again, model))
        np.testing.assert_allclose(found, expected, atol=1e-5)
