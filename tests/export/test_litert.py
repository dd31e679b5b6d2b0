import keras
import numpy as np
import pytest
from helpers import small_capsnet

from keras_capsules import datasets, export, models

if keras.backend.backend() != "tensorflow":
    pytest.skip("only TensorFlow exports LiteRT files", allow_module_level=True)


def scores(path, images):
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(str(path)).get_signature_runner()(images=images)["scores"]


@pytest.mark.parametrize(
    ("preset", "precision", "worst"),
    [
        ("capsnet_mnist_small", "float16", 0.01),
        ("capsnet_mnist_small", "int8", 0.1),
        ("matrix_capsnet_mnist_small", "float16", 0.02),
        ("matrix_capsnet_mnist_small", "int8", 0.1),
    ],
)
def test_smaller_weights_read_the_same_digits(tmp_path, preset, precision, worst):
    model = models.Classifier.from_preset(preset)
    images, _ = next(datasets.digits().test.batch(30).as_numpy_iterator())
    expected = model.predict(images, verbose=0)["scores"]
    path = tmp_path / f"{precision}.tflite"
    assert export.export_litert(model, path, precision) == path
    found = scores(path, images)
    np.testing.assert_allclose(found, expected, atol=worst)
    assert np.mean(found.argmax(-1) == expected.argmax(-1)) > 0.96
    if preset == "capsnet_mnist_small":  # whose decoder is left out
        weights = model.count_params() - model.decoder.count_params()
        size = {"float16": 2, "int8": 1}[precision] * weights
        # The converter keeps the kernel of the votes twice, once transposed.
        assert size < path.stat().st_size < 1.6 * size


def test_bad_arguments(tmp_path):
    model = small_capsnet()
    with pytest.raises(ValueError, match=r"`path` must end with .tflite.*net.onnx"):
        export.export_litert(model, tmp_path / "net.onnx")
    with pytest.raises(ValueError, match="`precision` must be one of"):
        export.export_litert(model, tmp_path / "net.tflite", precision="int4")
    assert not list(tmp_path.iterdir())


def test_a_failed_export_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "net.tflite"
    path.write_bytes(b"before")

    def fail(self, path, *args, **kwargs):
        path.write_bytes(b"half")
        raise RuntimeError("no space left")

    monkeypatch.setattr(models.CapsNet, "export", fail)
    with pytest.raises(RuntimeError, match="no space left"):
        export.export_litert(small_capsnet(), path)
    assert [file.name for file in tmp_path.iterdir()] == ["net.tflite"]
    assert path.read_bytes() == b"before"
