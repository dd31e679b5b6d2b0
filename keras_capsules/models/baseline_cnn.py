from typing import Any

import keras

from keras_capsules import validation
from keras_capsules._backend import Conv2D
from keras_capsules.models.classifier import Classifier


@keras.saving.register_keras_serializable(package="keras_capsules")
class BaselineCNN(Classifier):
    """A convolutional network to compare capsule networks with.

    The network has two convolutions with ReLU, each followed by 2×2 max-pooling, a
    dense layer with ReLU and dropout, and a softmax over the classes. The convolutions
    use `same` padding. With the default widths, 32×32×1 images and 5 classes there are
    4,252,549 parameters, the 4.2 million of the paper. Without padding there would be
    1.7 million.

    Compile it with a cross-entropy and fit it on images and labels.

    Args:
        input_shape: `(height, width, channels)` of an image.
        classes: number of classes.
        filters: numbers of filters of the two convolutions.
        kernel_size: height and width of the convolutions' kernels, an integer or a
            tuple of 2.
        units: number of units of the dense layer.
        dropout: fraction of the dense layer's units that are dropped in training.
        **kwargs: `name`, `dtype` and the other arguments of `keras.Model`.

    Call arguments:
        images: the images.
        training: whether dropout is applied.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        A dict: `scores` `(batch, classes)`, the probabilities of the classes in the
        variable dtype.

    Raises:
        ValueError: an argument is out of its range, or labels given as arrays
            have another shape or values outside the classes.

    Example:

    >>> import numpy as np
    >>> from keras_capsules import models
    >>> model = models.BaselineCNN((16, 16, 1), classes=3, filters=(4, 8), units=16)
    >>> model.compile("adam", "sparse_categorical_crossentropy")
    >>> images, labels = np.random.rand(8, 16, 16, 1), np.arange(8) % 3
    >>> history = model.fit(images, labels, verbose=0)
    >>> model.predict(images, verbose=0)["scores"].shape
    (8, 3)

    Reference:
        Hinton, Sabour and Frosst, Matrix capsules with EM routing (2018),
        section 5.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        classes: int,
        filters: tuple[int, int] = (32, 64),
        kernel_size: int | tuple[int, int] = 5,
        units: int = 1024,
        dropout: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(input_shape, classes, **kwargs)
        self.filters = validation.check_positive_integers("filters", filters, 2)
        self.kernel_size = validation.check_window("kernel_size", kernel_size)
        self.units = validation.check_positive_integer("units", units)
        if min(self.image_shape[:2]) < 4:
            raise ValueError(
                "Argument `input_shape` must be at least 4×4 pixels, since pooling "
                f"halves it twice. Received: input_shape={self.image_shape}"
            )
        self.dropout = validation.check_momentum("dropout", dropout)

        # Sublayers use this model's dtype policy, even if the model is loaded under
        # another global policy.
        dtype = self.dtype_policy
        self.features = [
            layer
            for count in self.filters
            for layer in (
                Conv2D(
                    count,
                    self.kernel_size,
                    padding="same",
                    activation="relu",
                    dtype=dtype,
                ),
                keras.layers.MaxPooling2D(data_format="channels_last", dtype=dtype),
            )
        ]
        self.features.append(keras.layers.Flatten("channels_last", dtype=dtype))
        self.hidden = keras.layers.Dense(self.units, activation="relu", dtype=dtype)
        self.drop = keras.layers.Dropout(dropout, dtype=dtype)
        self.probabilities = keras.layers.Dense(
            self.classes, activation="softmax", dtype=dtype.variable_dtype
        )
        self.build((None, *self.image_shape))
        self.freeze_sublayers()

    def build(self, input_shape):
        shape = input_shape
        for layer in (*self.features, self.hidden, self.drop, self.probabilities):
            if not layer.built:
                layer.build(shape)
            shape = layer.compute_output_shape(shape)

    def call(self, images, training=None):
        x = self.as_images(images)
        for layer in self.features:
            x = layer(x)
        # On JAX, Keras does not pass `training` on to sublayers.
        x = self.drop(self.hidden(x), training=training)
        return {"scores": self.probabilities(x)}

    @property
    def head(self):
        return (self.probabilities,)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "units": self.units,
            "dropout": self.dropout,
        }
