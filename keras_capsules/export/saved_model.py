import os
import shutil
from pathlib import Path

import keras
from keras import ops


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
      `(batch,)` int32, the longest capsule, and `poses` `(batch, classes, D)`;
    - `reconstruct`: `images` → `reconstructions`, of the same shape. A network
      without decoder does not have it.

    Images are float32 with values from 0 to 1; so is every output but
    `classes`. The folder appears whole or not at all.

    Args:
        model: a built capsule network, such as `models.CapsNet`.
        path: folder of the network's versions.
        version: number of the version, at least 1.
        overwrite: whether a version that is already there is replaced.

    Returns:
        The folder of the version, `path/version`.

    Raises:
        RuntimeError: Keras runs on another backend than TensorFlow.
        ValueError: the version exists and `overwrite` is false.

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
    target = Path(path) / str(version)
    if target.exists() and not overwrite:
        raise ValueError(
            f"Argument `version` must be new: {target} exists. Choose another, or "
            "pass overwrite=True."
        )

    def serve(images):
        outputs = model(images, training=False)
        scores, poses = (ops.cast(outputs[k], "float32") for k in ("scores", "poses"))
        classes = ops.cast(ops.argmax(scores, axis=-1), "int32")
        return {"scores": scores, "classes": classes, "poses": poses}

    def reconstruct(images):
        return {"reconstructions": model.reconstruct(images)}

    images = keras.InputSpec("float32", (None, *model.image_shape), name="images")
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serving_default", serve, [images])
    if model.decoder is not None:
        archive.add_endpoint("reconstruct", reconstruct, [images])

    unfinished = target.with_name(f"unfinished-{version}")
    shutil.rmtree(unfinished, ignore_errors=True)
    archive.write_out(unfinished, verbose=False)
    if target.exists():
        shutil.rmtree(target)
    os.replace(unfinished, target)
    return target
