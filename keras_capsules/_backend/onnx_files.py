"""What is added to files in ONNX."""

import os

import keras


def complete_onnx(
    path: str | os.PathLike, metadata: dict[str, str] | None = None
) -> None:
    """Adds to a file in ONNX what its users look for.

    Other backends than TensorFlow write these files otherwise; they stay as they are.

    Args:
        path: a file that tf2onnx wrote, which numbers the axes of unknown size. The
            first one of each input and output becomes `batch`.
        metadata: names and texts for the metadata of the file.
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
