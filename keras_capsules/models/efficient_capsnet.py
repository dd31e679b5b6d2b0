from typing import Any, ClassVar

import keras

from keras_capsules import validation
from keras_capsules._backend import BatchNormalization, Conv2D
from keras_capsules.models.vector_capsule_network import VectorCapsuleNetwork
from keras_capsules.ops import exponential_squash


@keras.saving.register_keras_serializable(package="keras_capsules")
class EfficientCapsNet(VectorCapsuleNetwork):
    """The network of "Efficient-CapsNet: capsule network with self-attention routing".

    Convolutions with batch normalization, the last with stride 2, compute a grid of
    features. A depthwise convolution with a kernel as large as the grid makes one
    primary capsule from every `primary_pose_shape` channels. Self-attention routing
    couples these few capsules to the class capsules without iterations. With 28×28×1
    images and ten classes the network has 161,824 trainable weights without the
    decoder, a fortieth of those of `CapsNet`.

    Compile the network with `MarginLoss` and fit it on images and labels; nothing else
    is needed. The decoder and the loss are those of `CapsNet`.

    Args:
        input_shape: `(height, width, channels)` of an image. The depthwise kernel has
            the size of the grid of features, 9×9 for 28×28 images. For large images it
            is about half as high and wide as the image.
        classes: number of classes.
        filters: numbers of filters of all convolutions but the last. The first
            convolution has a 5×5 kernel, the others have 3×3 kernels.
        primary_capsules: number of primary capsules.
        primary_pose_shape: size of the poses of the primary capsules.
        class_pose_shape: size of the poses of the class capsules.
        routing: a name, an instance or a config of a routing, see
            `keras_capsules.routing.get`.
        decoder_units: widths of the decoder's hidden layers; `None` for a
            network without decoder.
        reconstruction_weight: weight of the reconstruction error, the mean squared
            error of a pixel, in the loss.
        objects: number of objects in an image. The decoder reconstructs each object
            from its own capsule and returns the pixelwise maximum.
        **kwargs: `name`, `dtype` and the other arguments of `keras.Model`.

    Call arguments:
        images: images with values from 0 to 1.
        training: whether batch normalization uses the statistics of the batch.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        A dict: `scores` `(batch, classes)`, the lengths of the class capsules in the
        variable dtype, and `poses` `(batch, classes, class_pose_shape)`.

    Raises:
        ValueError: an argument is out of its range, the images are too small for the
            convolutions, or the labels are invalid, as for `CapsNet`.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> from keras_capsules import losses, models
    >>> model = models.EfficientCapsNet((28, 28, 1), classes=10)
    >>> model.compile("adam", loss=losses.MarginLoss(), metrics=["accuracy"])
    >>> images, labels = np.random.rand(4, 28, 28, 1), np.arange(4)
    >>> history = model.fit(images, labels, verbose=0)
    >>> outputs = model.predict(images, verbose=0)
    >>> outputs["scores"].shape, outputs["poses"].shape
    ((4, 10), (4, 10, 16))

    Reference:
        Mazzia, Salvetti and Chiaberge, Efficient-CapsNet: capsule network with
        self-attention routing (2021), section 3 and figure 2.
    """

    variants: ClassVar[dict[str, dict]] = {
        "paper": {},
        "small": {"filters": (16, 32), "decoder_units": (256, 512)},
    }
    presets: ClassVar[dict[str, str]] = {
        "efficient_capsnet_mnist_paper": "161,824 parameters, 99.70 % of MNIST",
    }

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        classes: int,
        filters: tuple[int, ...] = (32, 64, 64),
        primary_capsules: int = 16,
        primary_pose_shape: int = 8,
        class_pose_shape: int = 16,
        routing: Any = "self_attention",
        decoder_units: tuple[int, ...] | None = (512, 1024),
        reconstruction_weight: float = 0.392,
        objects: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(input_shape, classes, reconstruction_weight, objects, **kwargs)
        self.filters = validation.check_positive_integers("filters", filters, None)
        self.primary_capsules = validation.check_positive_integer(
            "primary_capsules", primary_capsules
        )
        self.primary_pose_shape = validation.check_positive_integer(
            "primary_pose_shape", primary_pose_shape
        )
        poses = primary_capsules, primary_pose_shape
        # The 5×5 convolution shortens each axis by 4, a 3×3 convolution by 2, and the
        # strides halve it.
        grid = tuple((s - 2 * len(filters) - 5) // 2 + 1 for s in self.image_shape[:2])
        if min(grid) < 1:
            raise ValueError(
                f"Argument `input_shape` must be at least {5 + 2 * len(filters)} "
                f"pixels high and wide. Received: {self.image_shape}"
            )

        # Sublayers use this model's dtype policy, even if the model is loaded under
        # another global policy.
        dtype = self.dtype_policy
        self.convolutions = []
        channels = *self.filters, primary_capsules * primary_pose_shape
        for index, count in enumerate(channels):
            conv = Conv2D(
                count,
                kernel_size=3 if index else 5,
                strides=1 if index < len(filters) else 2,
                activation="relu",
                kernel_initializer="he_normal",
                dtype=dtype,
                name=f"conv_{index}",
            )
            normalization = BatchNormalization(
                dtype=dtype, name=f"normalization_{index}"
            )
            self.convolutions += [conv, normalization]
        # A depthwise convolution with a kernel as large as the grid is a weighted sum
        # over positions.
        self.positions = keras.layers.Reshape(
            (grid[0] * grid[1], channels[-1]), dtype=dtype, name="positions"
        )
        self.primary = keras.layers.EinsumDense(
            "bpc,pc->bc",
            output_shape=(channels[-1],),
            bias_axes="c",
            kernel_initializer=keras.initializers.RandomNormal(
                stddev=(3 * primary_pose_shape * grid[0] * grid[1]) ** -0.5
            ),
            dtype=dtype,
            name="primary_capsule",
        )
        self.poses = keras.layers.Reshape(poses, dtype=dtype, name="poses")
        self.squash = keras.layers.Activation(
            exponential_squash, dtype=dtype, name="squash"
        )
        self.add_class_capsules(class_pose_shape, routing, decoder_units)

    @property
    def lower_layers(self):
        grid = self.positions, self.primary
        return *self.convolutions, *grid, self.poses, self.squash

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "primary_capsules": self.primary_capsules,
            "primary_pose_shape": self.primary_pose_shape,
        }
