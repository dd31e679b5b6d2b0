"""Names and metadata in ONNX files."""

import os

import keras


def complete_onnx(
    path: str | os.PathLike, metadata: dict[str, str] | None = None
) -> None:
    """Names the batch axes of an ONNX file and adds metadata.

    Files from other backends than TensorFlow are left unchanged.

    Args:
        path: a file that tf2onnx wrote. tf2onnx numbers axes of unknown size; the first
            axis of each input and output is renamed to `batch`.
        metadata: names and texts for the metadata of the file; by default none.
    """
    if keras.backend.backend() != "tensorflow":
        return
    import onnx

    network = onnx.load(path)
    for tensor in (*network.graph.input, *network.graph.output):
        batch = tensor.type.tensor_type.shape.dim[0]
        if not batch.HasField("dim_value"):
            batch.dim_param = "batch"
    onnx.helper.set_model_props(network, metadata or {})
    onnx.save(network, path)
