"""Signatures of exported networks."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_capsules import validation
from keras_capsules.models import Classifier


def signatures(
    model: Classifier,
    preprocess: Callable | None = None,
    pixels_shape: tuple[int, ...] | None = None,
) -> dict[str, tuple[Callable, list[keras.InputSpec]]]:
    """Returns the signatures of a network, as `export_saved_model` describes them.

    Args:
        model: a network of `keras_capsules.models`.
        preprocess: as for `export_saved_model`.
        pixels_shape: as for `export_saved_model`.

    Returns:
        A dict with a function and a list of the specs of its inputs for each
        signature, by name.
    """

    if preprocess is None and pixels_shape not in (None, model.image_shape):
        raise ValueError(
            "Argument `pixels_shape` needs `preprocess`, which makes images of the "
            f"network's shape {model.image_shape}. Received: {pixels_shape}"
        )

    def serve(images):
        import tensorflow as tf

        outputs = model(images, training=False)
        outputs = {name: ops.cast(x, "float32") for name, x in outputs.items()}
        # Keras's argmax uses a bitcast, which ONNX does not support.
        classes = tf.argmax(outputs["scores"], axis=-1, output_type="int32")
        return {**outputs, "classes": classes}

    def serve_uint8(images):
        import tensorflow as tf

        images = tf.cast(images, "float32")
        images = (preprocess or model.from_bytes)(images)
        return serve(tf.ensure_shape(images, (None, *model.image_shape)))

    def reconstruct(images):
        drawn = model.reconstruct(images)
        return {"reconstructions": ops.cast(drawn, "float32")}

    def decode(poses, classes):
        # With one class, integer labels would be read as presence of the class.
        labels = ops.one_hot(classes, 1) if model.classes == 1 else classes
        return {"pictures": ops.cast(model.decode(poses, labels), "float32")}

    def trace(images):
        steps = model.trace(images)[model.capsule_layers[-1].name]
        return {name: _images_first(x) for name, x in steps.items()}

    images = _spec("images", model.image_shape)
    pixels = _spec("images", pixels_shape or model.image_shape, "uint8")
    found = {
        "serving_default": (serve, [images]),
        "serving_uint8": (serve_uint8, [pixels]),
    }
    if getattr(model, "decoder", None) is not None:
        poses = model.compute_output_shape((None, *model.image_shape))["poses"]
        inputs = [_spec("poses", poses[1:]), _spec("classes", (), "int32")]
        found["reconstruct"] = (reconstruct, [images])
        found["decode"] = (decode, inputs)
    if hasattr(model, "capsule_layers"):
        found["trace"] = (trace, [images])
    return found


def check_preprocessing(
    preprocess: Callable | None, pixels_shape: tuple[int, ...] | None
) -> tuple[int, ...] | None:
    """Checks `preprocess` and `pixels_shape` before an export.

    Args:
        preprocess: as for `export_saved_model`.
        pixels_shape: as for `export_saved_model`.

    Returns:
        `pixels_shape` as a tuple, or `None`.

    Raises:
        ValueError: `preprocess` can't be called, or `pixels_shape` is not the shape of
            an image.
    """
    if not (preprocess is None or callable(preprocess)):
        raise ValueError(
            "Argument `preprocess` must be a function of images. Received: "
            f"preprocess={preprocess!r}"
        )
    if pixels_shape is None:
        return None
    return validation.check_positive_integers("pixels_shape", pixels_shape, 3)


def _spec(name, shape, dtype="float32"):
    return keras.InputSpec(dtype, (None, *shape), name=name)


def _images_first(x: Any) -> Any:
    """Moves the batch to the first axis, as serving needs: (batch, iterations, …)."""
    return ops.cast(ops.swapaxes(x, 0, 1), "float32")
