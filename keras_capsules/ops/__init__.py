"""Maths without state."""

from keras_capsules.ops.competition import compete
from keras_capsules.ops.coordinates import add_coordinates
from keras_capsules.ops.fields import ReceptiveFields
from keras_capsules.ops.labels import check_labels, class_indicators
from keras_capsules.ops.loops import fixed_loop
from keras_capsules.ops.norms import at_least_float32, safe_norm, squash
from keras_capsules.ops.votes import votes

__all__ = [
    "ReceptiveFields",
    "add_coordinates",
    "at_least_float32",
    "check_labels",
    "class_indicators",
    "compete",
    "fixed_loop",
    "safe_norm",
    "squash",
    "votes",
]
