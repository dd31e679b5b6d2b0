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
    """Exports a capsule network as a SavedModel, which loads without this package.

    It can be loaded with TensorFlow alone, `tf.saved_model.load(path)`, or served
    with TensorFlow Serving. Its signatures take batches of any size:

    - `serving_default`: `images` → `scores` `(batch, classes)`, `classes`
      `(batch,)` int32, the highest score, and, from a capsule network, `poses`
      `(batch, classes, …)`;
    - `serving_uint8`: the same of uint8 images from 0 to 255;
    - `reconstruct`: `images` → `reconstructions`, of the same shape;
    - `decode`: `poses` `(batch, classes, …)` and `classes` `(batch,)` int32, the
      class to draw → `pictures`, images;
    - `trace`: `images` → what `routing.Routing.trace` says of the class capsules, the
      batch first: `weights`, `scores` and `distances`
      `(batch, iterations, classes, children)`, `parents`
      `(batch, iterations, classes, P, R)` and, if the routing computes them,
      `activations` `(batch, iterations, classes)`. EM routing adds `means` and
      `variances` `(batch, iterations, classes, P · R)`.

    A network without decoder lacks `reconstruct` and `decode`; one without capsules
    lacks `trace`. Images are float32, as the network was trained on; every
    output but `classes` is float32. The folder appears whole or not at all.

    Args:
        model: a network of `keras_capsules.models`.
        path: folder of the network's versions.
        version: number of the version, at least 1.
        overwrite: whether a version that is already there is replaced.
        preprocess: makes images as the network was trained on, of float32 images
            with values from 0 to 255, with `keras.ops` or TensorFlow. By default it
            divides by 255; a `CapsuleClassifier` takes them as they are.
        pixels_shape: shape `(height, width, channels)` of the uint8 images, if
            `preprocess` makes images of another.
        warm_up: whether to add the requests that TensorFlow Serving runs before it
            takes others. It needs tensorflow-serving-api.

    Returns:
        The folder of the version, `path/version`.

    Raises:
        ModuleNotFoundError: tensorflow-serving-api is missing.
        RuntimeError: Keras runs on another backend than TensorFlow.
        ValueError: the model is no network of ours, the version is below 1, or
            exists while `overwrite` is false, or another process is exporting it,
            `preprocess` can't be called, `pixels_shape` is no shape of an image, or
            the path can't be written.

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
    # The gradients of the routings would be most of the file, and nobody serves them.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    archive.write_out(folder, options, verbose=False)
    if warm_up:
        write_warm_up(folder, {name: specs for name, (_, specs) in offered.items()})
