"""Maths without state."""

from keras_capsules.ops.competition import compete
from keras_capsules.ops.convolutions import strided_convolution
from keras_capsules.ops.coordinates import add_coordinates
from keras_capsules.ops.fields import ReceptiveFields
from keras_capsules.ops.gradients import vjp
from keras_capsules.ops.labels import check_labels, class_indicators
from keras_capsules.ops.loops import fixed_loop, over_blocks, written_out
from keras_capsules.ops.norms import at_least_float32, safe_norm, squash
from keras_capsules.ops.votes import Votes, by_child, votes

__all__ = [
    "ReceptiveFields",
    "Votes",
    "add_coordinates",
    "at_least_float32",
    "by_child",
    "check_labels",
    "class_indicators",
    "compete",
    "fixed_loop",
    "over_blocks",
    "safe_norm",
    "squash",
    "strided_convolution",
    "vjp",
    "votes",
    "written_out",
]
