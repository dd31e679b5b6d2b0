"""Stateless operations on capsules, votes and labels."""

from keras_capsules.ops.competition import compete
from keras_capsules.ops.coordinates import add_coordinates
from keras_capsules.ops.labels import class_indicators
from keras_capsules.ops.norms import (
    at_least_float32,
    exponential_squash,
    safe_norm,
    squash,
)
from keras_capsules.ops.patches import extract_patches
from keras_capsules.ops.receptive_fields import ReceptiveFields
from keras_capsules.ops.votes import votes

__all__ = [
    "ReceptiveFields",
    "add_coordinates",
    "at_least_float32",
    "class_indicators",
    "compete",
    "exponential_squash",
    "extract_patches",
    "safe_norm",
    "squash",
    "votes",
]
