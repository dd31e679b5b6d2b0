from typing import Any, ClassVar

import keras
from keras import ops

from keras_capsules import routing as routings
from keras_capsules import validation
from keras_capsules._backend import Conv2D
from keras_capsules.layers import (
    ConvCapsule,
    EMRoutingCapsule,
    PoseNormalization,
    PrimaryCapsule,
)
from keras_capsules.models.capsule_network import CapsuleNetwork


@keras.saving.register_keras_serializable(package="keras_capsules")
class MatrixCapsNet(CapsuleNetwork):
    """The network of "Matrix capsules with EM routing".

    The network has a 5×5 convolution with stride 2 and A channels, B types of primary
    capsules, two convolutional capsule layers with 3×3 receptive fields, and one
    capsule for each class. The first convolutional capsule layer has C types and
    stride 2, the second has D types and stride 1. The activation of a class capsule is
    the score of its class.

    `PoseNormalization` scales the poses before each routing to a root mean square of 1.

    Compile the network with `SpreadLoss`, raise the margin of the loss with
    `SpreadMarginSchedule`, and fit the network on images and labels.

    Args:
        input_shape: `(height, width, channels)` of an image, at least 17×17
            pixels.
        classes: number of classes.
        variant: a name in `variants`, `"paper"` or `"small"`, or a tuple of A, B, C
            and D.
        coordinate_addition: whether to add the position of a child to its votes for
            the classes.
        routing: a name, an instance or a config of a routing, see
            `keras_capsules.routing.get`. It must compute activations. Each of the
            three layers gets a copy.
        decoder_units: widths of the decoder's hidden layers; `None` for a
            network without decoder, as in the paper. A decoder requires images with
            values from 0 to 1.
        reconstruction_weight: weight of the reconstruction error, the mean squared
            error of a pixel, in the loss.
        **kwargs: `name`, `dtype` and the other arguments of `keras.Model`.

    Call arguments:
        images: images whose values are of order 1: standardised to mean 0 and
            variance 1, or with values from 0 to 1.
        training: whether the call is part of training. Batch normalization, for example
            in `routing.EMRouting`, then uses the statistics of the batch.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        A dict: `scores` `(batch, classes)`, the activations of the class capsules in
        the variable dtype, and `poses` `(batch, classes, 4, 4)`.

    Raises:
        ValueError: an argument is out of its range, the image is too small, or
            labels given as arrays have another shape or values outside the
            classes.

    Example:

    >>> import numpy as np
    >>> from keras_capsules import losses, models
    >>> model = models.MatrixCapsNet((20, 20, 1), classes=3, variant=(8, 2, 3, 3))
    >>> model.compile("adam", loss=losses.SpreadLoss(), metrics=["accuracy"])
    >>> images, labels = np.random.randn(6, 20, 20, 1), np.arange(6) % 3
    >>> history = model.fit(images, labels, verbose=0)
    >>> outputs = model.predict(images, verbose=0)
    >>> outputs["scores"].shape, outputs["poses"].shape
    ((6, 3), (6, 3, 4, 4))

    Reference:
        Hinton, Sabour and Frosst, Matrix capsules with EM routing (2018),
        section 4 and figure 1.
    """

    variants: ClassVar[dict[str, tuple[int, int, int, int]]] = {
        "paper": (32, 32, 32, 32),
        "small": (64, 8, 16, 16),
    }
    presets: ClassVar[dict[str, str]] = {
        "matrix_capsnet_mnist_small": "68,570 parameters, 99.41 % of MNIST",
    }

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        classes: int,
        variant: str | tuple[int, int, int, int] = "paper",
        coordinate_addition: bool = True,
        routing: Any = "em",
        decoder_units: tuple[int, ...] | None = None,
        reconstruction_weight: float = 0.392,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            input_shape, classes, reconstruction_weight, objects=1, **kwargs
        )
        if isinstance(variant, str):
            variant = validation.check_one_of("variant", variant, self.variants)
            variant = self.variants[variant]
        self.variant = validation.check_positive_integers("variant", variant, 4)
        self.coordinate_addition = validation.check_flag(
            "coordinate_addition", coordinate_addition
        )
        a, b, c, d = self.variant
        if min(self.image_shape[:2]) < 17:
            raise ValueError(
                "Argument `input_shape` must be at least 17×17 pixels, so that every "
                f"receptive field fits into its grid. Received: {self.image_shape}"
            )
        routing = routings.get(routing)
        if not routing.computes_activations:
            raise ValueError(
                "Argument `routing` must compute activations, as EMRouting does. "
                f"Received: routing={routing!r}"
            )
        # Each layer creates its own routing from the config.
        routing = keras.saving.serialize_keras_object(routing)

        # Sublayers use this model's dtype policy, even if the model is loaded under
        # another global policy.
        dtype = self.dtype_policy
        self.conv = Conv2D(
            a,
            5,
            2,
            # The maximum avoids overflow in half precision for images of any scale.
            activation=keras.layers.ReLU(max_value=1e3, dtype=dtype),
            kernel_initializer="he_normal",
            dtype=dtype,
            name="conv",
        )
        self.primary = PrimaryCapsule(b, (4, 4), dtype=dtype, name="primary_capsule")
        self.conv_capsules_1 = ConvCapsule(
            c, strides=2, routing=routing, dtype=dtype, name="conv_capsules_1"
        )
        self.conv_capsules_2 = ConvCapsule(
            d, routing=routing, dtype=dtype, name="conv_capsules_2"
        )
        # In half precision the activations of two classes could round to one value.
        self.class_capsules = EMRoutingCapsule(
            classes,
            coordinate_addition=coordinate_addition,
            routing=routing,
            dtype=dtype.variable_dtype,
            name="class_capsules",
        )
        self.normalization = PoseNormalization(dtype=dtype, name="pose_normalization")
        self.add_decoder(decoder_units)
        self.build((None, *self.image_shape))
        self.freeze_sublayers()

    @property
    def routing(self):
        return self.class_capsules.routing

    @property
    def capsule_layers(self):
        return self.conv_capsules_1, self.conv_capsules_2, self.class_capsules

    def build(self, input_shape):
        shape = input_shape
        for layer in (self.conv, self.primary, *self.capsule_layers):
            if not layer.built:
                layer.build(shape)
            shape = layer.compute_output_shape(shape)
        self.normalization.build(shape)
        if self.decoder is not None:
            self.decoder.build(shape[0])

    def lowest_capsules(self, images, training=None):
        return self.primary(self.conv(images))

    def between_layers(self, capsules):
        return self.normalization(capsules)

    def outputs(self, capsules):
        poses, scores = capsules
        return {"scores": scores, "poses": ops.cast(poses, self.compute_dtype)}

    def compute_output_shape(self, input_shape):
        scores = (input_shape[0], self.classes)
        return {"scores": scores, "poses": (*scores, 4, 4)}

    def get_config(self):
        return {
            **super().get_config(),
            "variant": self.variant,
            "coordinate_addition": self.coordinate_addition,
            "routing": keras.saving.serialize_keras_object(self.routing),
        }
