import json

import keras
import numpy as np
import pytest
from helpers import random_images, small_capsnet

from keras_capsules import export, routing

if keras.backend.backend() != "tensorflow":
    pytest.skip("only TensorFlow exports ONNX files", allow_module_level=True)


def load(path):
    import onnx

    return onnx.load(path)


def run(path, images):
    from onnxruntime import InferenceSession

    session = InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"images": images}), strict=True))


def axes(tensors):
    return {
        tensor.name: [
            axis.dim_param or axis.dim_value
            for axis in tensor.type.tensor_type.shape.dim
        ]
        for tensor in tensors
    }


def test_scores_poses_and_classes_of_batches_of_any_size(tmp_path):
    model = small_capsnet(
        dtype="mixed_bfloat16", routing=routing.DynamicRouting(block=2)
    )
    path = tmp_path / "network.onnx"
    path.write_text("before")
    assert export.export_onnx(model, path, opset_version=17) == path
    assert [file.name for file in tmp_path.iterdir()] == ["network.onnx"]
    network = load(path)
    assert network.opset_import[0].version == 17
    assert axes(network.graph.input) == {"images": ["batch", 16, 14, 1]}
    assert axes(network.graph.output) == {
        "scores": ["batch", 3],
        "classes": ["batch"],
        "poses": ["batch", 3, 6],
    }
    assert not any(node.op_type == "Loop" for node in network.graph.node)
    images, _ = random_images(5)
    whole = small_capsnet(routing=routing.DynamicRouting(block=2))
    whole.set_weights(model.get_weights())
    expected = whole.predict(images, verbose=0)
    for count in (1, 5):
        found = run(path, images[:count])
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value[:count], atol=1e-5)
        np.testing.assert_array_equal(found["classes"], found["scores"].argmax(-1))


def test_pixels_that_are_preprocessed_and_names_of_the_classes(tmp_path):
    model, path = small_capsnet(decoder_units=None), tmp_path / "network.onnx"
    export.export_onnx(
        model,
        path,
        "serving_uint8",
        preprocess=lambda pixels: 1.0 - pixels[:, 4:-4, 3:-3] / 255.0,
        pixels_shape=(24, 20, 1),
        class_names=("Katze", "Hund", "Löwe"),
        loops=True,
    )
    pixels = np.random.default_rng(0).integers(0, 256, (2, 24, 20, 1), "uint8")
    images = 1.0 - pixels[:, 4:-4, 3:-3] / np.float32(255.0)
    found, expected = run(path, pixels), model.predict(images, verbose=0)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5)
    network = load(path)
    (metadata,) = network.metadata_props
    assert metadata.key == "class_names"
    assert json.loads(metadata.value) == ["Katze", "Hund", "Löwe"]
    assert any(node.op_type == "Loop" for node in network.graph.node)


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("`class_names` must hold a name for each of the 3", {"class_names": ["a"]}),
        ("`signature` must be one of", {"signature": "serve"}),
        ("`preprocess` must be a function", {"preprocess": 255}),
        ("are for signature='serving_uint8'", {"preprocess": abs}),
        ("`opset_version`", {"opset_version": "latest"}),
        ("`opset_version` must be at least 12", {"opset_version": 11}),
        ("`loops` must be True or False", {"loops": 3}),
    ],
)
def test_bad_arguments(tmp_path, message, arguments):
    with pytest.raises(ValueError, match=message):
        export.export_onnx(small_capsnet(), tmp_path / "network.onnx", **arguments)
    with pytest.raises(ValueError, match=r"ends with .onnx.*net.tflite"):
        export.export_onnx(small_capsnet(), tmp_path / "net.tflite")
    assert not list(tmp_path.iterdir())
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(ValueError, match=r"`path` must be a file .*folder.onnx"):
        export.export_onnx(small_capsnet(), tmp_path / "folder.onnx")
