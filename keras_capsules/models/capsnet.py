from typing import Any, ClassVar

import keras

from keras_capsules import validation
from keras_capsules._backend import Conv2D
from keras_capsules.layers import PrimaryCapsule
from keras_capsules.models.vector_capsule_network import VectorCapsuleNetwork


@keras.saving.register_keras_serializable(package="keras_capsules")
class CapsNet(VectorCapsuleNetwork):
    """The network of "Dynamic routing between capsules".

    The network has a convolution, primary capsules and one capsule for each class. The
    length of a class capsule is the score of its class. A decoder reconstructs the
    image from the pose of the class capsule. Its error is added to the loss:

    `loss = margin loss + reconstruction_weight · mean squared error of a pixel`

    In `fit` and `evaluate` the decoder is given the capsule of the true class. Without
    labels it is given the longest capsule. With the default widths, 28×28×1 images and
    ten classes the network has 8,215,568 parameters.

    Compile the network with `MarginLoss` and fit it on images and labels; nothing else
    is needed. The attribute `variants` contains the arguments of named sizes:
    `models.CapsNet(input_shape, classes, **models.CapsNet.variants["small"])`.

    Args:
        input_shape: `(height, width, channels)` of an image.
        classes: number of classes.
        filters: number of filters of the first convolution.
        kernel_size: height and width of the kernels of the first convolution and of
            the primary capsules, an integer or a tuple of 2.
        primary_capsules: number of types of primary capsules.
        primary_pose_shape: size of the poses of the primary capsules.
        primary_strides: strides of the primary capsules, an integer or a tuple of 2.
        class_pose_shape: size of the poses of the class capsules.
        routing: a name, an instance or a config of a routing, see
            `keras_capsules.routing.get`.
        decoder_units: widths of the decoder's hidden layers; `None` for a
            network without decoder.
        reconstruction_weight: weight of the reconstruction error, the mean squared
            error of a pixel, in the loss. The default equals the paper's 0.0005 for
            the sum over 784 pixels.
        objects: number of objects in an image. The decoder reconstructs each object
            from its own capsule and returns the pixelwise maximum.
        **kwargs: `name`, `dtype` and the other arguments of `keras.Model`.

    Call arguments:
        images: images with values from 0 to 1.
        training: whether the call is part of training. Batch normalization, for example
            in `routing.EMRouting`, then uses the statistics of the batch.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        A dict: `scores` `(batch, classes)`, the lengths of the class capsules in the
        variable dtype, and `poses` `(batch, classes, class_pose_shape)`.

    Raises:
        ValueError: an argument is out of its range, the receptive field is larger than
            the image, or labels given as arrays have another shape or values outside
            the classes. Labels from a `tf.data.Dataset` are checked by TensorFlow when
            a step runs, which raises `tf.errors.InvalidArgumentError`. XLA, also with
            JAX, does not check them.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> from keras_capsules import losses, models
    >>> model = models.CapsNet((16, 16, 1), classes=3, filters=4, kernel_size=5,
    ...                        primary_capsules=2, decoder_units=(8,))
    >>> model.compile("adam", loss=losses.MarginLoss(), metrics=["accuracy"])
    >>> images, labels = np.random.rand(8, 16, 16, 1), np.arange(8) % 3
    >>> history = model.fit(images, labels, verbose=0)
    >>> outputs = model.predict(images, verbose=0)
    >>> outputs["scores"].shape, outputs["poses"].shape
    ((8, 3), (8, 3, 16))

    Reference:
        Sabour, Frosst and Hinton, Dynamic routing between capsules (2017),
        figures 1 and 2.
    """

    variants: ClassVar[dict[str, dict]] = {
        "paper": {},
        "medium": {"filters": 128, "primary_capsules": 16},
        "small": {"filters": 64, "primary_capsules": 8, "decoder_units": (256, 512)},
    }
    presets: ClassVar[dict[str, str]] = {
        "capsnet_mnist_small": "1,280,720 parameters, 99.57 % of MNIST",
    }

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        classes: int,
        filters: int = 256,
        kernel_size: int | tuple[int, int] = 9,
        primary_capsules: int = 32,
        primary_pose_shape: int = 8,
        primary_strides: int | tuple[int, int] = 2,
        class_pose_shape: int = 16,
        routing: Any = "dynamic",
        decoder_units: tuple[int, ...] | None = (512, 1024),
        reconstruction_weight: float = 0.392,
        objects: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(input_shape, classes, reconstruction_weight, objects, **kwargs)
        sizes = {
            "filters": filters,
            "primary_capsules": primary_capsules,
            "primary_pose_shape": primary_pose_shape,
        }
        for name, size in sizes.items():
            setattr(self, name, validation.check_positive_integer(name, size))
        self.kernel_size = validation.check_window("kernel_size", kernel_size)
        validation.check_receptive_field(
            "kernel_size", self.kernel_size, self.image_shape[:2]
        )

        # Sublayers use this model's dtype policy, even if the model is loaded under
        # another global policy.
        dtype = self.dtype_policy
        self.conv = Conv2D(
            filters,
            self.kernel_size,
            activation="relu",
            dtype=dtype,
            name="conv",
        )
        self.primary = PrimaryCapsule(
            primary_capsules,
            primary_pose_shape,
            self.kernel_size,
            primary_strides,
            dtype=dtype,
            name="primary_capsule",
        )
        self.primary_strides = self.primary.strides
        self.add_class_capsules(class_pose_shape, routing, decoder_units)

    @property
    def lower_layers(self):
        return self.conv, self.primary

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "primary_capsules": self.primary_capsules,
            "primary_pose_shape": self.primary_pose_shape,
            "primary_strides": self.primary_strides,
        }
