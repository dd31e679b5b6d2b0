import os
from pathlib import Path

from keras_capsules import validation
from keras_capsules.export.targets import (
    check_network,
    put,
    unfinished_folder,
    writable_folder,
)
from keras_capsules.models import Classifier


def export_litert(
    model: Classifier, path: str | os.PathLike, precision: str = "float32"
) -> Path:
    """Exports a network as a LiteRT file, for mobile and embedded devices.

    The file has one signature. Its input `images` is float32, with any batch size. Its
    outputs are `scores` and, for a capsule network, `poses`, both float32. With the
    precision `"int8"`, convolutions and votes are computed in 8 bits (dynamic-range
    quantization); variances, couplings and activations stay in float32.

    Args:
        model: a network of `keras_capsules.models`.
        path: path of the file, `NAME.tflite`. An existing file is replaced.
        precision: precision of the weights: `"float32"`, `"float16"` or `"int8"`.

    Returns:
        The path of the file.

    Raises:
        RuntimeError: Keras runs on another backend than TensorFlow.
        ValueError: the model is not a network of `keras_capsules.models`, the precision
            is unknown, the path has another suffix or can't be written, or another
            process is exporting to it.

    Example:

    ```python
    export.export_litert(model, "capsnet.tflite", precision="int8")
    runner = Interpreter("capsnet.tflite").get_signature_runner()
    scores = runner(images=images)["scores"]
    ```
    """
    check_network(model)
    validation.check_one_of("precision", precision, ("float32", "float16", "int8"))
    path = Path(path)
    if path.suffix != ".tflite":
        raise ValueError(
            f"Argument `path` must end with .tflite. Received: path={path}"
        )
    writable_folder(path.parent)
    with unfinished_folder(path) as folder:
        unfinished = folder / path.name
        model.export(unfinished, "litert", verbose=False, **_conversion(precision))
        put(unfinished, path)
    return path


def _conversion(precision):
    """Returns the converter options that Keras's `export` passes on."""
    if precision == "float32":
        return {}
    import tensorflow as tf

    types = [tf.float16] if precision == "float16" else []
    return {
        "optimizations": [tf.lite.Optimize.DEFAULT],
        "target_spec": {"supported_types": types},
    }
