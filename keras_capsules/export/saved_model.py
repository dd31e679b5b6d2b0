import os
import shutil
from pathlib import Path

import keras
from keras import ops

from keras_capsules import arguments
from keras_capsules.models import Classifier


def export_saved_model(
    model: keras.Model,
    path: str | os.PathLike,
    version: int = 1,
    overwrite: bool = False,
) -> Path:
    """Writes a capsule network as a SavedModel that needs nothing of ours.

    It can be loaded with TensorFlow alone, `tf.saved_model.load(path)`, and has
    two signatures for batches of any size:

    - `serving_default`: `images` → `scores` `(batch, classes)`, `classes`
      `(batch,)` int32, the highest score, and, from a capsule network, `poses`
      `(batch, classes, …)`;
    - `reconstruct`: `images` → `reconstructions`, of the same shape. A network
      without decoder does not have it.

    Images are float32, as the network was trained on; every output but `classes` is
    float32. The folder appears whole or not at all.

    Args:
        model: a network of `keras_capsules.models`.
        path: folder of the network's versions.
        version: number of the version, at least 1.
        overwrite: whether a version that is already there is replaced.

    Returns:
        The folder of the version, `path/version`.

    Raises:
        RuntimeError: Keras runs on another backend than TensorFlow.
        ValueError: the model is no network of ours, or the version is below 1,
            or exists while `overwrite` is false.

    Example:

    ```python
    export.export_saved_model(model, "saved_models/capsnet_mnist")
    served = tf.saved_model.load("saved_models/capsnet_mnist/1")
    scores = served.signatures["serving_default"](images=images)["scores"]
    ```
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "Only TensorFlow exports SavedModels. Keras runs on "
            f"{keras.backend.backend()}: save the model, set KERAS_BACKEND=tensorflow "
            "and load it again."
        )
    if not isinstance(model, Classifier):
        raise ValueError(
            "Argument `model` must be a network of keras_capsules.models; other Keras "
            f"models have model.export(path). Received: model={model!r}"
        )
    version = arguments.positive_integer("version", version)
    target = Path(path) / str(version)
    if target.exists() and not overwrite:
        raise ValueError(
            f"Argument `version` must be new: {target} exists. Choose another, or "
            "pass overwrite=True."
        )

    def serve(images):
        outputs = model(images, training=False)
        outputs = {name: ops.cast(x, "float32") for name, x in outputs.items()}
        classes = ops.cast(ops.argmax(outputs["scores"], axis=-1), "int32")
        return {**outputs, "classes": classes}

    def reconstruct(images):
        return {"reconstructions": model.reconstruct(images)}

    images = keras.InputSpec("float32", (None, *model.image_shape), name="images")
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serving_default", serve, [images])
    if getattr(model, "decoder", None) is not None:
        archive.add_endpoint("reconstruct", reconstruct, [images])

    unfinished = target.with_name(f"unfinished-{version}")
    replaced = target.with_name(f"replaced-{version}")
    for leftover in (unfinished, replaced):
        shutil.rmtree(leftover, ignore_errors=True)
    archive.write_out(unfinished, verbose=False)
    if target.exists():
        os.replace(target, replaced)
    os.replace(unfinished, target)
    shutil.rmtree(replaced, ignore_errors=True)
    return target
