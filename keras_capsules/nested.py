"""Configs that include the state of sublayers."""

from typing import Any, TypeVar

import keras

Owner = TypeVar("Owner", bound="Nested")


class Nested:
    """Adds the state of sublayers, frozen or quantized, to the config of a layer.

    The config of a layer holds the arguments of its constructor. Later changes of its
    sublayers, such as `model.conv.trainable = False` or `model.quantize("int8")`, would
    be lost when it is saved. A layer that creates sublayers in its constructor has this
    class as a base before `keras.layers.Layer` or `keras.Model`. `CapsuleLayer`,
    `Routing` and `Classifier` have it already.

    Example:

    >>> from keras_capsules import layers
    >>> layer = layers.PrimaryCapsule(4, 8)
    >>> layer.conv.trainable = False
    >>> layers.PrimaryCapsule.from_config(layer.get_config()).conv.trainable
    False
    """

    def get_config(self) -> dict:
        config, sublayers = super().get_config(), _sublayers(self)
        if all(
            layer.trainable == self.trainable and layer.quantization_mode is None
            for layer in sublayers
        ):
            return config
        return {**config, "sublayers": [_state(layer) for layer in sublayers]}

    @classmethod
    def from_config(cls: type[Owner], config: dict, *args: Any) -> Owner:
        config = dict(config)
        states = config.pop("sublayers", [])
        owner = super().from_config(config, *args)
        # Sublayers that a routing creates in `build` do not exist yet.
        for layer, state in zip(_sublayers(owner), states, strict=False):
            _restore(layer, state)
        return owner

    def freeze_sublayers(self) -> None:
        """Freezes all sublayers if the layer was created with `trainable=False`."""
        if not self.trainable:
            # `self.trainable = False` has no effect on TensorFlow if it is False.
            for layer in _sublayers(self):
                layer.trainable = False


def _sublayers(layer):
    """Returns all nested layers of a layer; each comes after the layer it is in."""
    return layer._flatten_layers(include_self=False)


def _state(layer):
    state = {"trainable": layer.trainable, "quantization": layer.quantization_mode}
    if layer.quantization_mode is not None:
        state["quantization_config"] = keras.saving.serialize_keras_object(
            layer.quantization_config
        )
    return state


def _restore(layer, state):
    if state["quantization"] is not None:
        layer.quantize(
            state["quantization"],
            config=keras.saving.deserialize_keras_object(state["quantization_config"]),
        )
    layer.trainable = state["trainable"]
