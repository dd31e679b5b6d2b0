from typing import Any, ClassVar

import keras

from keras_capsules import validation
from keras_capsules._backend import seed_generators
from keras_capsules.layers import PrimaryCapsule
from keras_capsules.models.residual_backbone import GRID, residual_backbone
from keras_capsules.models.vector_capsule_network import VectorCapsuleNetwork


@keras.saving.register_keras_serializable(package="keras_capsules")
class CapsuleClassifier(VectorCapsuleNetwork):
    """Capsule network on top of any backbone that extracts features.

    images → `preprocess` → `backbone` → primary capsules → class capsules

    The backbone may be a pretrained network of `keras.applications` or KerasHub, or
    your own model. By default it is `residual_backbone`. A 3×3 convolution computes the
    primary capsules. It has strides if the feature map is larger than 8×8.

    Preprocessing is part of the network. For example, with
    `preprocess=keras.layers.Rescaling(1 / 255)` the network is trained, saved, exported
    and served with images whose values range from 0 to 255.

    To fine-tune a pretrained backbone, train the capsules first, and then all layers
    with a small learning rate:

    ```python
    for trainable, learning_rate in ((False, 1e-3), (True, 1e-5)):
        model.backbone.trainable = trainable
        optimizer = keras.optimizers.Adam(learning_rate)
        model.compile(optimizer, losses.MarginLoss(), metrics=["accuracy"])
        model.fit(images, labels, epochs=5)
    ```

    Args:
        input_shape: `(height, width, channels)` of an image.
        classes: number of classes.
        backbone: a model or layer that maps images to features
            `(batch, height, width, channels)` and has `compute_output_shape`. `None`
            for the `residual_backbone` of the preprocessed images.
        preprocess: a layer that is applied to the images before the backbone, such as
            `keras.layers.Rescaling`. `None` for no preprocessing. A decoder
            reconstructs the preprocessed images, which must then have the shape of the
            images and values from 0 to 1. They must not be random and must be the same
            in training and afterwards: random layers belong in the data set.
        primary_capsules: number of types of primary capsules.
        primary_pose_shape: size of the poses of the primary capsules.
        class_pose_shape: size of the poses of the class capsules.
        routing: a name, an instance or a config of a routing, see
            `keras_capsules.routing.get`.
        decoder_units: widths of the decoder's hidden layers; `None` for a network
            without decoder.
        reconstruction_weight: weight of the reconstruction error, the mean squared
            error of a pixel, in the loss.
        objects: number of objects in an image. The decoder reconstructs each object
            from its own capsule and returns the pixelwise maximum.
        **kwargs: `name`, `dtype` and the other arguments of `keras.Model`.

    Call arguments:
        images: the images.
        training: whether layers of the backbone, such as batch normalization and
            dropout, behave as in training.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        A dict: `scores` `(batch, classes)` in the variable dtype, and `poses` `(batch,
        classes, class_pose_shape)`.

    Raises:
        ValueError: an argument is out of its range, the backbone takes images of
            another shape or does not return features with four axes, or the labels
            are invalid, as for `CapsNet`.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> from keras_capsules import losses, models
    >>> model = models.CapsuleClassifier(
    ...     (32, 32, 3), classes=4, preprocess=keras.layers.Rescaling(1 / 255),
    ...     backbone=models.residual_backbone((32, 32, 3), width=4, blocks=1))
    >>> model.compile("adam", loss=losses.MarginLoss(), metrics=["accuracy"])
    >>> images = np.random.randint(0, 256, (8, 32, 32, 3), "uint8")
    >>> history = model.fit(images, np.arange(8) % 4, verbose=0)
    >>> model.predict(images, verbose=0)["scores"].shape
    (8, 4)

    Reference:
        Sabour, Frosst and Hinton, Dynamic routing between capsules (2017), section 4,
        with the features of a deeper network, as in Tsai et al., Capsules with inverted
        dot-product attention routing (2020), section 4.
    """

    presets: ClassVar[dict[str, str]] = {
        "capsule_classifier_multi_mnist": "905,408 parameters, 93.20 % of MultiMNIST",
    }

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        classes: int,
        backbone: Any = None,
        preprocess: Any = None,
        primary_capsules: int = 16,
        primary_pose_shape: int = 8,
        class_pose_shape: int = 16,
        routing: Any = "self_attention",
        decoder_units: tuple[int, ...] | None = None,
        reconstruction_weight: float = 0.392,
        objects: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(input_shape, classes, reconstruction_weight, objects, **kwargs)
        self.primary_capsules = validation.check_positive_integer(
            "primary_capsules", primary_capsules
        )
        self.primary_pose_shape = validation.check_positive_integer(
            "primary_pose_shape", primary_pose_shape
        )
        self.preprocess = _layer("preprocess", preprocess)
        images = None, *self.image_shape
        prepared = _shape_after("preprocess", self.preprocess, images)
        if backbone is None:
            backbone = residual_backbone(prepared[1:], dtype=self.dtype_policy)
        self.backbone = _layer("backbone", backbone)
        if decoder_units is not None and prepared != images:
            raise ValueError(
                "Argument `preprocess` must keep the shape of images that a decoder "
                f"reconstructs, {images[1:]}. Received: {self.preprocess.name}, which "
                f"returns {prepared[1:]}"
            )
        random = self.preprocess is not None and seed_generators(self.preprocess)
        if decoder_units is not None and random:
            # The target of the decoder would be another draw than the network's input.
            raise ValueError(
                "Argument `preprocess` must not be random for a network with a "
                "decoder: apply random layers to the data set. Received: "
                f"{self.preprocess.name}"
            )
        features = _shape_after("backbone", self.backbone, prepared)
        if len(features) != 4 or None in features[1:]:
            raise ValueError(
                "Argument `backbone` must return features of shape (batch, height, "
                "width, channels), as networks of keras.applications do with "
                f"include_top=False. Received: {self.backbone.name}, which returns "
                f"{features}"
            )
        self.primary = PrimaryCapsule(
            primary_capsules,
            primary_pose_shape,
            kernel_size=3,
            strides=tuple(-(-size // GRID) for size in features[1:3]),
            padding="same",
            dtype=self.dtype_policy,
            name="primary_capsule",
        )
        self.add_class_capsules(class_pose_shape, routing, decoder_units)

    @property
    def lower_layers(self):
        below = () if self.preprocess is None else (self.preprocess,)
        return *below, self.backbone, self.primary

    def from_bytes(self, images):
        return images  # `preprocess` or the backbone scales them

    def drawn_images(self, images):
        if self.preprocess is None:
            return images
        return self.preprocess(self.as_images(images))

    def get_config(self):
        return {
            **super().get_config(),
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "preprocess": keras.saving.serialize_keras_object(self.preprocess),
            "primary_capsules": self.primary_capsules,
            "primary_pose_shape": self.primary_pose_shape,
        }


def _layer(name, value):
    """Returns the layer of a layer, a config or `None`."""
    if isinstance(value, dict):
        value = keras.saving.deserialize_keras_object(value)
    if value is not None and not isinstance(value, keras.layers.Layer):
        raise ValueError(
            f"Argument `{name}` must be a Keras model or layer, such as "
            f"keras.layers.Rescaling. Received: {value!r}"
        )
    return value


def _shape_after(name, layer, shape):
    """Returns the output shape of a layer; without a layer the input shape."""
    if layer is None:
        return shape
    # Some models compute an output shape for images that they do not take.
    taken = getattr(layer, "input_shape", None) or shape
    if any(a != b for a, b in zip(taken, shape, strict=False) if a is not None):
        raise ValueError(
            f"Argument `{name}` must take images of shape {shape}. Received: "
            f"{layer.name}, which takes {tuple(taken)}"
        )
    try:
        return tuple(layer.compute_output_shape(shape))
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(
            f"Argument `{name}` must take images of shape {shape}. Received: "
            f"{layer.name}, which says: {error}"
        ) from error
