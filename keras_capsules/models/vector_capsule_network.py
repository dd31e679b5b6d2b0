import warnings
from typing import Any

import keras
from keras import ops

from keras_capsules import routing as routings
from keras_capsules import validation
from keras_capsules.layers import CapsuleLength, DigitCapsule
from keras_capsules.models.capsule_network import CapsuleNetwork

# Number of parameters above which to warn. In training they need 800 MB.
_MANY = 50_000_000


@keras.saving.register_keras_serializable(package="keras_capsules")
class VectorCapsuleNetwork(CapsuleNetwork):
    """Base class of networks whose class capsules are vectors.

    The score of a class is the length of its capsule, or its activation if the routing
    computes activations. With some routings, such as
    `routing.InvertedAttentionRouting`, the length of a pose is not an activation
    (`length_is_activation` is False). A dense layer shared by all classes then computes
    the score from the pose.

    A subclass creates its lower layers in its constructor and then calls
    `add_class_capsules`. Its property `lower_layers` returns the lower layers, of which
    the last computes the primary capsules.

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
        A dict: `scores` `(batch, classes)` in the variable dtype, and `poses` `(batch,
        classes, class_pose_shape)`.

    Raises:
        ValueError: an argument is out of its range, or as for `CapsuleNetwork`.

    Example:

    >>> from keras_capsules import models
    >>> network = models.EfficientCapsNet((28, 28, 1), classes=10)
    >>> isinstance(network, models.VectorCapsuleNetwork)
    True
    """

    @property
    def lower_layers(self) -> tuple[keras.layers.Layer, ...]:
        """The layers below the class capsules, in their order."""
        raise NotImplementedError

    def add_class_capsules(
        self, pose_shape: int, routing: Any, decoder_units: tuple[int, ...] | None
    ) -> None:
        """Adds the class capsules and the decoder, and builds the network.

        Args:
            pose_shape: size of the poses of the class capsules.
            routing: a name, an instance or a config of a routing, see
                `keras_capsules.routing.get`.
            decoder_units: widths of the decoder's hidden layers; `None` for a
                network without decoder.
        """
        self.class_pose_shape = validation.check_positive_integer(
            "class_pose_shape", pose_shape
        )
        dtype = self.dtype_policy
        self.class_capsules = DigitCapsule(
            self.classes,
            pose_shape,
            routings.get(routing),
            dtype=dtype,
            name="class_capsules",
        )
        self.length = CapsuleLength(dtype=dtype.variable_dtype, name="capsule_length")
        self.score = None
        if not (self.routing.computes_activations or self.routing.length_is_activation):
            self.score = keras.layers.Dense(
                1, "sigmoid", dtype=dtype.variable_dtype, name="score"
            )
        self.add_decoder(decoder_units)
        self.build((None, *self.image_shape))
        self.freeze_sublayers()
        self._warn_of_size()

    def build(self, input_shape):
        shape = input_shape
        for layer in (*self.lower_layers, self.class_capsules):
            if not layer.built:  # a backbone may be built already
                layer.build(shape)
            shape = layer.compute_output_shape(shape)
        poses = shape[0] if self.routing.computes_activations else shape
        self.length.build(poses)
        if self.score is not None and not self.score.built:
            self.score.build(poses)
        if self.decoder is not None:
            self.decoder.build(poses)

    @property
    def routing(self):
        return self.class_capsules.routing

    @property
    def capsule_layers(self):
        return (self.class_capsules,)

    @property
    def head(self):
        score = () if self.score is None else (self.score,)
        return *super().head, *score

    def lowest_capsules(self, images, training=None):
        for layer in self.lower_layers:
            images = layer(images, training=training)
        return images

    def outputs(self, capsules):
        if not self.routing.computes_activations:
            return {"scores": self._scores(capsules), "poses": capsules}
        poses, activations = capsules
        return {"scores": ops.cast(activations, self.variable_dtype), "poses": poses}

    def compute_output_shape(self, input_shape):
        poses = (input_shape[0], self.classes, self.class_pose_shape)
        return {"scores": poses[:2], "poses": poses}

    def decode(self, poses: Any, labels: Any = None) -> Any:
        """Reconstructs images from the poses of class capsules.

        Args:
            poses: poses of the class capsules, `(batch, classes, D)`.
            labels: the classes to reconstruct: integers, one-hot or multi-hot. Without
                labels the `objects` capsules with the highest scores are used. Labels
                are required if the routing computes activations.

        Returns:
            Images `(batch, height, width, channels)` with values from 0 to 1, in the
            variable dtype, which is float32 under a mixed policy, too.

        Raises:
            ValueError: the network has no decoder, labels are required and missing, or
                they have another shape, values outside the classes, or more than
                `objects` classes for an image.
        """
        if labels is not None:
            return super().decode(poses, labels)
        self._check_decoder()
        if self.routing.computes_activations:
            raise ValueError(
                "Argument `labels` must be given: with this routing the poses do not "
                "determine the scores of the classes. Received: None"
            )
        return self._draw_together(poses, self._most_active(self._scores(poses)))

    def get_config(self):
        return {
            **super().get_config(),
            "class_pose_shape": self.class_pose_shape,
            "routing": keras.saving.serialize_keras_object(self.routing),
            "objects": self.objects,
        }

    def _scores(self, poses):
        """Computes the scores from the poses if the routing computes no activations."""
        if self.score is None:
            return self.length(poses)
        return self.score(poses)[..., 0]

    def _warn_of_size(self):
        """Warns if large images lead to very many parameters."""
        chosen = self.backbone.count_params() if hasattr(self, "backbone") else 0
        if self.count_params() - chosen <= _MANY:
            return
        text = f"{type(self).__name__} has {_millions(self)} million parameters for "
        text += f"images of shape {self.image_shape}."
        if self.decoder is not None:
            text += f" {_millions(self.decoder)} million of them are the decoder's, "
            text += "which decoder_units=None leaves out."
        if not hasattr(self, "backbone"):
            text += " models.CapsuleClassifier has a few million for any size."
        warnings.warn(text, stacklevel=4)


def _millions(layer):
    return round(layer.count_params() / 1e6)
