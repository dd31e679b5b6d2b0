"""What layers within a layer keep when they are saved with it."""

from typing import Any, TypeVar

import keras

Owner = TypeVar("Owner", bound="Nested")


class Nested:
    """Saves what was done to the layers within a layer: freezing and quantization.

    The config of a layer says how it was made. What users did to its sublayers
    afterwards is lost with it unless it is saved too: `model.conv.trainable = False`,
    or `model.quantize("int8")`. This class stands before `keras.layers.Layer` or
    `keras.Model` among the bases of a layer that makes layers in its constructor.

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
        # What a routing makes in `build` isn't there yet.
        for layer, state in zip(_sublayers(owner), states, strict=False):
            _restore(layer, state)
        return owner

    def freeze_sublayers(self) -> None:
        """Freezes what was made within a layer that has `trainable=False`."""
        if not self.trainable:
            # TensorFlow takes no notice of `self.trainable = False` where it is False.
            for layer in _sublayers(self):
                layer.trainable = False


def _sublayers(layer):
    """All layers within a layer; each comes after the one that it is in."""
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
