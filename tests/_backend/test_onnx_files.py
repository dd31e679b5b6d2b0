import keras
import pytest

from keras_capsules._backend import complete_onnx


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="these files are TensorFlow's"
)
def test_axes_of_unknown_size_are_the_batch(tmp_path):
    onnx = pytest.importorskip("onnx")
    kind = onnx.TensorProto.FLOAT
    x, y = (
        onnx.helper.make_tensor_value_info(name, kind, [size, 3])
        for name, size in (("x", "unk__1"), ("y", 2))
    )
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    path = tmp_path / "network.onnx"
    graph = onnx.helper.make_graph([node], "graph", [x], [y])
    onnx.save(onnx.helper.make_model(graph), path)
    complete_onnx(path, {"class_names": "[]"})
    network = onnx.load(path)
    first = [
        tensor.type.tensor_type.shape.dim[0]
        for tensor in (*network.graph.input, *network.graph.output)
    ]
    assert first[0].dim_param == "batch" and first[1].dim_value == 2
    assert network.metadata_props[0].value == "[]"
