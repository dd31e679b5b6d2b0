import json
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import keras

from keras_capsules import validation
from keras_capsules._backend import complete_onnx, unrolled
from keras_capsules.export.signatures import check_preprocessing, signatures
from keras_capsules.export.targets import (
    check_network,
    put,
    unfinished_folder,
    writable_folder,
)
from keras_capsules.models import Classifier
from keras_capsules.models.classifier import in_float32

_EINSUM = 12  # the first version of ONNX's operators that has Einsum


def export_onnx(
    model: Classifier,
    path: str | os.PathLike,
    signature: str = "serving_default",
    preprocess: Callable | None = None,
    pixels_shape: tuple[int, ...] | None = None,
    class_names: Sequence[str] | None = None,
    opset_version: int | None = None,
    loops: bool = False,
) -> Path:
    """Exports a network as an ONNX file.

    The file contains one of the signatures that `export_saved_model` describes, with
    the same names of inputs and outputs. For example, `"serving_default"` accepts
    `images` scaled as in training and returns `scores`, `classes` and, for a capsule
    network, `poses`; `"serving_uint8"` accepts pixels from 0 to 255. The first axis of
    each input and output is named `batch` and can have any size.

    Args:
        model: a network of `keras_capsules.models`.
        path: path of the file, `NAME.onnx`. An existing file is replaced.
        signature: name of the signature.
        preprocess: as for `export_saved_model`; only for the signature
            `"serving_uint8"`.
        pixels_shape: as for `export_saved_model`; only for the signature
            `"serving_uint8"`.
        class_names: a name for each class. The names are stored in the metadata of the
            file, under `class_names`, as a list in JSON. By default there are none.
        opset_version: version of ONNX's operators, at least 12; by default tf2onnx
            chooses it.
        loops: whether the loops of routing remain loops in the file. By default they
            are unrolled. The file then runs faster, but needs memory in proportion to
            the batch size. A loop needs the memory of one block of images.

    Returns:
        The path of the file.

    Raises:
        RuntimeError: Keras runs on another backend than TensorFlow.
        ValueError: the model is not a network of `keras_capsules.models` or has no such
            signature, `preprocess` or `pixels_shape` is given for another signature or
            is invalid, there is not one name for each class, `opset_version` is below
            12, the path has another suffix, is a folder or can't be written, or another
            process is exporting to it.

    Example:

    ```python
    export.export_onnx(model, "capsnet.onnx", class_names=["cat", "dog"])
    session = onnxruntime.InferenceSession("capsnet.onnx")
    (scores,) = session.run(["scores"], {"images": images})
    names = json.loads(session.get_modelmeta().custom_metadata_map["class_names"])
    ```
    """
    check_network(model)
    pixels_shape = check_preprocessing(preprocess, pixels_shape)
    path, metadata = Path(path), {}
    if path.suffix != ".onnx" or path.is_dir():
        raise ValueError(
            "Argument `path` must be a file that ends with .onnx. "
            f"Received: path={path}"
        )
    if class_names is not None:
        names = validation.check_class_names("class_names", class_names, model.classes)
        metadata["class_names"] = json.dumps(names)
    if opset_version is not None:
        version = validation.check_positive_integer("opset_version", opset_version)
        if version < _EINSUM:
            raise ValueError(
                f"Argument `opset_version` must be at least {_EINSUM}, the first "
                f"version with Einsum, which routings use. Received: {version}"
            )
    validation.check_flag("loops", loops)
    model = in_float32(model)
    offered = signatures(model, preprocess, pixels_shape)
    validation.check_one_of("signature", signature, offered)
    if signature != "serving_uint8" and (preprocess or pixels_shape):
        raise ValueError(
            "Arguments `preprocess` and `pixels_shape` are for "
            f"signature='serving_uint8'. Received: signature={signature!r}"
        )
    writable_folder(path.parent)
    function, specs = offered[signature]
    with unfinished_folder(path) as folder:
        unfinished = folder / path.name
        with nullcontext() if loops else unrolled():
            Endpoint(model, function).export(
                unfinished,
                "onnx",
                verbose=False,
                input_signature=specs,
                opset_version=opset_version,
            )
        complete_onnx(unfinished, metadata)
        put(unfinished, path)
    return path


class Endpoint(keras.Model):
    """A model that computes one signature of a network, for Keras's `export`.

    Args:
        network: the network.
        function: the function of one of its `signatures`.
    """

    def __init__(self, network: Classifier, function: Callable) -> None:
        super().__init__()
        self.network = network
        self.function = function
        self.built = True

    def call(self, *inputs: Any) -> dict:
        return self.function(*inputs)
