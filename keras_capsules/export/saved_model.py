import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

import keras

from keras_capsules import validation
from keras_capsules.export.signatures import check_preprocessing, signatures
from keras_capsules.export.targets import (
    check_network,
    put,
    unfinished_folder,
    writable_folder,
)
from keras_capsules.export.warm_up import write_warm_up
from keras_capsules.models import Classifier


def export_saved_model(
    model: Classifier,
    path: str | os.PathLike,
    version: int = 1,
    overwrite: bool = False,
    preprocess: Callable | None = None,
    pixels_shape: tuple[int, ...] | None = None,
    warm_up: bool = False,
) -> Path:
    """Exports a network as a SavedModel, which can be loaded without this package.

    The SavedModel can be loaded with TensorFlow alone, `tf.saved_model.load(path)`, or
    served with TensorFlow Serving. Its signatures accept batches of any size:

    - `serving_default`: `images` → `scores` `(batch, classes)`, `classes` `(batch,)`
      int32, the classes with the highest scores, and, for a capsule network, `poses`
      `(batch, classes, …)`;
    - `serving_uint8`: the same, for uint8 images with values from 0 to 255;
    - `reconstruct`: `images` → `reconstructions`, of the same shape;
    - `decode`: `poses` `(batch, classes, …)` and `classes` `(batch,)` int32, the
      class whose pose is decoded → `pictures`, the decoded images;
    - `trace`: `images` → the output of `routing.Routing.trace` for the class capsules,
      with the batch as first axis: `weights`, `scores` and `distances`
      `(batch, iterations, classes, children)`, `parents`
      `(batch, iterations, classes, P, R)` and, if the routing computes them,
      `activations` `(batch, iterations, classes)`. EM routing adds `means` and
      `variances` `(batch, iterations, classes, P · R)`.

    A network without decoder has no `reconstruct` and `decode`; a network without
    capsules has no `trace`. Unless stated otherwise, images are float32 and scaled as
    in training, and outputs are float32. The folder is written atomically, so that
    there is never an incomplete version.

    Args:
        model: a network of `keras_capsules.models`.
        path: folder that contains the versions of the network, created if it is
            missing.
        version: number of the version, at least 1.
        overwrite: whether an existing version is replaced.
        preprocess: a function of float32 images with values from 0 to 255 that returns
            images scaled as in training. It is used in `serving_uint8`, and is written
            with `keras.ops` or TensorFlow. By default images are divided by 255; those
            for a `CapsuleClassifier` are not scaled.
        pixels_shape: shape `(height, width, channels)` of the uint8 images. It is
            needed if `preprocess` changes the shape.
        warm_up: whether to add warm-up requests, which TensorFlow Serving runs before
            it accepts other requests. This needs tensorflow-serving-api.

    Returns:
        The folder of the version, `path/version`.

    Raises:
        ModuleNotFoundError: `warm_up` is set and tensorflow-serving-api is missing.
        RuntimeError: Keras runs on another backend than TensorFlow.
        ValueError: the model is not a network of `keras_capsules.models`, the version
            is below 1, the version exists and `overwrite` is `False`, another process
            is exporting it, `preprocess` can't be called, `pixels_shape` is not the
            shape of an image, or the path can't be written.

    Example:

    ```python
    export.export_saved_model(model, "saved_models/capsnet_mnist")
    served = tf.saved_model.load("saved_models/capsnet_mnist/1")
    scores = served.signatures["serving_default"](images=images)["scores"]
    ```
    """
    check_network(model)
    version = validation.check_positive_integer("version", version)
    pixels_shape = check_preprocessing(preprocess, pixels_shape)
    validation.check_flag("overwrite", overwrite)
    validation.check_flag("warm_up", warm_up)
    if warm_up and importlib.util.find_spec("tensorflow_serving") is None:
        raise ModuleNotFoundError(
            "warm_up=True needs tensorflow-serving-api: "
            'pip install "keras_capsules[serve]"'
        )
    target = writable_folder(path) / str(version)
    with unfinished_folder(target) as folder:
        if os.path.lexists(target) and not overwrite:
            raise ValueError(
                f"Argument `version` must be new: {target} exists. Choose another, or "
                "pass overwrite=True."
            )
        unfinished = folder / target.name
        _write(signatures(model, preprocess, pixels_shape), unfinished, warm_up)
        put(unfinished, target)
    return target


def _write(offered, folder, warm_up):
    import tensorflow as tf

    archive = keras.export.ExportArchive()
    for name, (function, specs) in offered.items():
        archive.add_endpoint(name, function, specs)
    # The gradients of the routings are not needed, and would be most of the file.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    archive.write_out(folder, options, verbose=False)
    if warm_up:
        write_warm_up(folder, {name: specs for name, (_, specs) in offered.items()})
