"""What a SavedModel can be asked."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_capsules.models import Classifier


def signatures(
    model: Classifier, preprocess: Callable
) -> dict[str, tuple[Callable, list[keras.InputSpec]]]:
    """The signatures of a network: a function for each, and what it takes.

    Args:
        model: a network of `keras_capsules.models`.
        preprocess: makes images as the network was trained on of float32 images
            with values from 0 to 255.

    Returns:
        Functions and the specs of their inputs, by name, as
        `export_saved_model` describes them.
    """

    def serve(images):
        outputs = model(images, training=False)
        outputs = {name: ops.cast(x, "float32") for name, x in outputs.items()}
        classes = ops.cast(ops.argmax(outputs["scores"], axis=-1), "int32")
        return {**outputs, "classes": classes}

    def serve_uint8(images):
        return serve(preprocess(ops.cast(images, "float32")))

    def reconstruct(images):
        return {"reconstructions": model.reconstruct(images)}

    def decode(poses, classes):
        return {"pictures": model.decode(poses, classes)}

    def trace(images):
        steps = model.trace(images)[model.class_capsules.name]
        return {name: _images_first(x) for name, x in steps.items()}

    images = _spec("images", model.image_shape)
    pixels = _spec("images", model.image_shape, "uint8")
    found = {
        "serving_default": (serve, [images]),
        "serving_uint8": (serve_uint8, [pixels]),
    }
    if getattr(model, "decoder", None) is not None:
        poses = model.compute_output_shape((None, *model.image_shape))["poses"]
        inputs = [_spec("poses", poses[1:]), _spec("classes", (), "int32")]
        found["reconstruct"] = (reconstruct, [images])
        found["decode"] = (decode, inputs)
    if hasattr(model, "trace"):
        found["trace"] = (trace, [images])
    return found


def _spec(name, shape, dtype="float32"):
    return keras.InputSpec(dtype, (None, *shape), name=name)


def _images_first(x: Any) -> Any:
    """(iterations, batch, …) as (batch, iterations, …), as servers want it."""
    return ops.cast(ops.swapaxes(x, 0, 1), "float32")
