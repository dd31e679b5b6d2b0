import warnings
from contextlib import contextmanager
from math import prod
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_capsules import validation
from keras_capsules._backend import amax, replicas
from keras_capsules.layers import CapsuleLayer
from keras_capsules.models.classifier import Classifier, labels_of, of_scores
from keras_capsules.ops import class_indicators


@keras.saving.register_keras_serializable(package="keras_capsules")
class CapsuleNetwork(Classifier):
    """Base class of capsule networks, with capsule layers and an optional decoder.

    A subclass returns its capsule layers from `capsule_layers`; the last of them has a
    capsule for each class. `lowest_capsules` computes the input of the first capsule
    layer. `between_layers` prepares the input of each capsule layer. `outputs` computes
    the outputs of the network from the class capsules.

    The decoder reconstructs the image from the pose of a class capsule, and its error
    is added to the loss. In `fit` and `evaluate` the decoder is given the capsule of
    the true class. Without labels it is given the most active capsule. A subclass adds
    the decoder with `add_decoder` after its other layers. The logs contain both parts
    of the loss: `scores_loss`, and `reconstruction_loss` without its weight. The list
    that `evaluate` returns contains only the loss and the metrics of `compile`.

    If an image shows several objects, the decoder reconstructs each one separately. By
    default the pixelwise maximum of the reconstructions is compared with the image.
    Labels may also be a dict of `scores` and `images`. These images
    `(batch, objects, height, width, channels)` show one object each, ordered by class,
    in the scale of the network's inputs. Each reconstruction is then compared with its
    own image, and the errors are added.

    The reconstruction loss is added only when the network itself is trained, by `fit`
    or `train_on_batch`. Within a `Sequential` or functional model the network can be
    used for inference. It can be trained there if it is frozen or has no decoder.

    Args:
        input_shape: `(height, width, channels)` of an image.
        classes: number of classes.
        reconstruction_weight: weight of the reconstruction error, the mean squared
            error of a pixel, in the loss.
        objects: number of objects in an image. The decoder reconstructs each object
            from its own capsule and returns the pixelwise maximum.
        **kwargs: `name`, `dtype` and the other arguments of `keras.Model`.

    Call arguments:
        images: the images.
        training: whether the call is part of training. Batch normalization, for example
            in `routing.EMRouting`, then uses the statistics of the batch.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        A dict: `scores` `(batch, classes)` and `poses` `(batch, classes, …)`.

    Raises:
        ValueError: an argument is out of its range; with a decoder, labels have more
            than `objects` classes for an image, or the network is trained within
            another model; or as for `Classifier`.

    Example:

    >>> from keras_capsules import models
    >>> network = models.CapsNet((28, 28, 1), classes=10)
    >>> isinstance(network, models.CapsuleNetwork)
    True
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        classes: int,
        reconstruction_weight: float = 0.392,
        objects: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(input_shape, classes, **kwargs)
        self.reconstruction_weight = validation.check_at_least(
            "reconstruction_weight", reconstruction_weight, 0
        )
        self.objects = validation.check_positive_integer("objects", objects)
        if objects > classes:
            raise ValueError(
                "Argument `objects` must not exceed `classes`. "
                f"Received: objects={objects}, classes={classes}"
            )
        self.decoder = None
        self.decoder_units = None
        self._parts_of_loss = {}
        # Whether the network is part of another model, and whether its own `fit` or
        # `train_on_batch` is running.
        self._is_part = self._trains = False

    # Methods that a subclass implements.

    @property
    def capsule_layers(self) -> tuple[CapsuleLayer, ...]:
        """The capsule layers in their order; the last has the class capsules."""
        raise NotImplementedError

    def lowest_capsules(self, images: Any, training: bool | None = None) -> Any:
        """Computes the lowest capsules, the input of the first capsule layer.

        Args:
            images: the images.
            training: as for calling the network. Pass it on to layers that behave
                differently in training, since Keras does not do so on JAX.

        Returns:
            Poses, or `(poses, activations)`.
        """
        raise NotImplementedError

    def between_layers(self, capsules: Any) -> Any:
        """Prepares the input of a capsule layer; by default returns it unchanged.

        Args:
            capsules: poses, or `(poses, activations)`.

        Returns:
            Poses, or `(poses, activations)`.
        """
        return capsules

    def outputs(self, capsules: Any) -> dict:
        """Computes the outputs of the network.

        Args:
            capsules: output of the last capsule layer.

        Returns:
            A dict of `scores` `(batch, classes)` and `poses` `(batch, classes, …)`.
        """
        raise NotImplementedError

    def drawn_images(self, images: Any) -> Any:
        """Computes the target images of the decoder; by default the input images.

        Args:
            images: input images of the network.

        Returns:
            Images `(batch, height, width, channels)` with values from 0 to 1.
        """
        return images

    @property
    def head(self):
        decoder = () if self.decoder is None else (self.decoder,)
        return self.capsule_layers[-1], *decoder

    # Methods for users.

    def call(self, images, training=None):
        learns = training and self.decoder is not None and self.trainable_weights
        if learns and self._is_part and not self._trains:
            raise ValueError(
                "A network with a decoder can't be trained within another model, which "
                "would leave out its reconstruction loss. Train the network itself on "
                "images that are scaled before, use CapsuleClassifier with "
                f"`preprocess`, or set decoder_units=None. Received: {self.name}"
            )
        capsules = self.lowest_capsules(self.as_images(images), training)
        for layer in self.capsule_layers:
            capsules = layer(self.between_layers(capsules), training=training)
        return self.outputs(capsules)

    def trace(self, images: Any) -> dict:
        """Returns the results of each routing iteration in each capsule layer.

        Args:
            images: as for calling the network.

        Returns:
            A dict from the name of each capsule layer to its trace, see
            `CapsuleLayer.trace`.

        Raises:
            ValueError: the images have another shape than the network's.
        """
        images = self.as_images(images)
        if tuple(images.shape[1:]) != self.image_shape:
            raise ValueError(
                f"Argument `images` must have shape (batch, *{self.image_shape}). "
                f"Received: {tuple(images.shape)}"
            )
        traces, capsules = {}, self.lowest_capsules(images)
        for layer in self.capsule_layers:
            capsules = self.between_layers(capsules)
            traces[layer.name] = layer.trace(capsules)
            capsules = layer(capsules)
        return traces

    def add_decoder(self, units: tuple[int, ...] | None) -> None:
        """Adds the decoder.

        Args:
            units: widths of the decoder's hidden layers; `None` for no decoder.
        """
        if units is None:
            return
        self.decoder_units = validation.check_positive_integers(
            "decoder_units", units, None
        )
        dtype = self.dtype_policy
        # The inputs are poses, which the global image data format must not transpose.
        flatten = keras.layers.Flatten("channels_last", dtype=dtype)
        hidden = [
            keras.layers.Dense(units, activation="relu", dtype=dtype)
            for units in self.decoder_units
        ]
        pixels = keras.layers.Dense(
            prod(self.image_shape), activation="sigmoid", dtype=dtype.variable_dtype
        )
        image = keras.layers.Reshape(self.image_shape, dtype=dtype.variable_dtype)
        self.decoder = keras.Sequential(
            [flatten, *hidden, pixels, image], name="decoder"
        )
        for name in ("scores_loss", "reconstruction_loss"):
            self._parts_of_loss[name] = keras.metrics.Mean(name)

    def decode(self, poses: Any, labels: Any) -> Any:
        """Reconstructs images from the poses of class capsules.

        Args:
            poses: poses of the class capsules, `(batch, classes, …)`.
            labels: the classes to reconstruct: integers, one-hot or multi-hot.

        Returns:
            Images `(batch, height, width, channels)` with values from 0 to 1, in the
            variable dtype, which is float32 under a mixed policy, too.

        Raises:
            ValueError: the network has no decoder, or the labels have another shape,
                values outside the classes, or more than `objects` classes for an image.
        """
        self._check_decoder()
        self.check_labels(labels, "labels")
        return self._draw_together(poses, class_indicators(labels, self.classes))

    def reconstruct(self, images: Any, labels: Any = None) -> Any:
        """Reconstructs images from the poses that the network computes from them.

        Args:
            images: images `(batch, height, width, channels)`.
            labels: the classes to reconstruct: integers, one-hot or multi-hot.
                Without labels the `objects` most active capsules are used.

        Returns:
            Images of the same shape, as from `decode`.

        Raises:
            ValueError: as for `decode`.
        """
        self._check_decoder()
        outputs = self(images)
        if labels is None:
            classes = self._most_active(outputs["scores"])
            return self._draw_together(outputs["poses"], classes)
        return self.decode(outputs["poses"], labels)

    def _check(self, x, y, name="y"):
        super()._check(x, y, name)
        if self.decoder is not None and _own_images(y) is not None:
            self._check_own_images(_own_images(y), name)

    def check_labels(self, labels, name):
        super().check_labels(labels, name)
        if self.decoder is not None:
            reason = f"with objects={self.objects} the decoder reconstructs no more"
            validation.check_count_of_classes(
                labels, self.classes, self.objects, reason, name
            )

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        *args,
        **kwargs,
    ):
        if self.decoder is not None:
            if hasattr(x, "shape") and len(x.shape) == 4 and len(x):
                _warn_of_large_images(self.drawn_images(x[:64]))
            if not isinstance(callbacks, keras.callbacks.CallbackList):
                callbacks = [*keras.tree.flatten(callbacks or []), _WatchesImages()]
        with self._training():
            return super().fit(
                x, y, batch_size, epochs, verbose, callbacks, *args, **kwargs
            )

    def train_on_batch(self, *args, **kwargs):
        with self._training():
            return super().train_on_batch(*args, **kwargs)

    def compute_output_spec(self, images, training=None):
        # Keras calls this when the network becomes part of a functional model.
        self._is_part = True
        return super().compute_output_spec(images, training)

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if self.decoder is None:
            return loss
        labels, own_images = labels_of("y", y), _own_images(y)
        self.check_labels(labels, "y")
        drawn = self._draw(y_pred["poses"], class_indicators(labels, self.classes))
        if own_images is None:
            expected, drawn = self.drawn_images(x), amax(drawn, axis=1)
        else:
            self._check_own_images(own_images, "y")
            expected = self.drawn_images(_joined(own_images))
        pixels = -1, prod(drawn.shape[1:])
        error = keras.losses.MeanSquaredError()(
            ops.reshape(expected, pixels),
            ops.reshape(drawn, pixels),
            of_scores("sample_weight", sample_weight),
        )
        if own_images is not None:
            error *= self.objects
        parts = self._parts_of_loss.values()
        for part, value in zip(parts, (loss, error), strict=True):
            value = replicas() * ops.stop_gradient(value)
            part.update_state(value, ops.shape(x)[0])
        return loss + self.reconstruction_weight * error

    def get_config(self):
        return {
            **super().get_config(),
            "decoder_units": self.decoder_units,
            "reconstruction_weight": self.reconstruction_weight,
        }

    @contextmanager
    def _training(self):
        self._trains = True
        try:
            yield
        finally:
            self._trains = False

    def _flatten_metrics_in_order(self, logs):
        # With more values `loss, accuracy = model.evaluate(…)` would fail.
        logs = {k: x for k, x in logs.items() if k not in self._parts_of_loss}
        return super()._flatten_metrics_in_order(logs)

    def _check_own_images(self, images, name):
        shape = tuple(images.shape if hasattr(images, "shape") else np.shape(images))
        expected = self.objects, *self.image_shape
        known = zip(shape[1:], expected, strict=False)
        if len(shape) != 5 or any(size not in (None, wanted) for size, wanted in known):
            raise ValueError(
                f"Argument `{name}` must hold `images` of shape (batch, "
                f"{', '.join(map(str, expected))}), the image of each object. "
                f"Received: {shape}"
            )

    def _check_decoder(self):
        if self.decoder is None:
            raise ValueError(
                f"{self.name} has no decoder: it was built with decoder_units=None."
            )

    def _most_active(self, scores):
        _, classes = ops.top_k(scores, self.objects)
        return ops.sum(ops.one_hot(classes, self.classes), axis=1)

    def _draw(self, poses, indicators):
        """Reconstructs each object separately, in the order of the classes.

        Args:
            poses: poses of the class capsules, `(batch, classes, …)`.
            indicators: multi-hot labels.

        Returns:
            Images `(batch, objects, *image_shape)`, zeros for missing objects.
        """
        poses = ops.convert_to_tensor(poses)
        # PyTorch's `top_k` returns equal values in any order.
        first = ops.arange(self.classes, dtype="float32") * (1e-4 / self.classes)
        ranks = ops.cast(indicators, "float32") - first
        _, classes = ops.top_k(ranks, self.objects)
        classes = ops.cast(classes, "int32")
        there = ops.take_along_axis(indicators, classes, axis=1) > 0
        # First the objects that are present, ordered by class, then the missing ones.
        classes = ops.sort(ops.where(there, classes, classes + self.classes), axis=1)
        classes = classes % self.classes
        present = ops.take_along_axis(indicators, classes, axis=1)
        keep = ops.one_hot(classes, self.classes, dtype=poses.dtype)
        # (batch, objects, classes, 1, …)
        keep = ops.reshape(
            keep, (-1, self.objects, self.classes, *(1,) * (len(poses.shape) - 2))
        )
        images = self.decoder(_joined(keep * poses[:, None]))
        images = ops.reshape(images, (-1, self.objects, *self.image_shape))
        return images * ops.cast(present[..., None, None, None], images.dtype)

    def _draw_together(self, poses, indicators):
        """Reconstructs all objects in one image, their pixelwise maximum."""
        return amax(self._draw(poses, indicators), axis=1)


def _own_images(y):
    """Returns the images of the objects, or `None` if the labels have none."""
    return y.get("images") if isinstance(y, dict) else None


def _joined(x):
    """Merges the first two axes, images and objects."""
    return ops.reshape(x, (-1, *x.shape[2:]))


# Images and errors above this threshold can't be on a scale of about 0 to 1.
_LARGEST = 10.0


class _WatchesImages(keras.callbacks.Callback):
    """Warns after an epoch if pixel values are too large for the decoder."""

    def on_train_begin(self, logs=None):
        self.warned = False

    def on_epoch_end(self, epoch, logs=None):
        # Values from 0 to 1 have a mean squared error of at most 1.
        error = (logs or {}).get("reconstruction_loss", 0.0)
        if error > _LARGEST and not self.warned:
            self.warned = True
            _warn_of_images(f"an error of {error:.0f} for a pixel")


def _warn_of_large_images(images):
    """Warns if an array of images has values too large for the decoder."""
    largest = float(np.max(np.abs(ops.convert_to_numpy(images))))
    if largest > _LARGEST:
        _warn_of_images(f"values up to {largest:.0f}")


def _warn_of_images(received):
    warnings.warn(
        "The decoder reconstructs images with values from 0 to 1; the network does not "
        f"learn from much larger values. Received images with {received}: divide them "
        "by 255.",
        stacklevel=3,
    )
