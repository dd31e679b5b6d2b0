"""Capsule layers, which define how child capsules connect to parent capsules."""

from keras_capsules.layers.capsule_layer import CapsuleLayer
from keras_capsules.layers.capsule_length import CapsuleLength
from keras_capsules.layers.capsule_mask import CapsuleMask
from keras_capsules.layers.conv_capsule import ConvCapsule
from keras_capsules.layers.digit_capsule import DigitCapsule
from keras_capsules.layers.em_routing_capsule import EMRoutingCapsule
from keras_capsules.layers.pose_normalization import PoseNormalization
from keras_capsules.layers.primary_capsule import PrimaryCapsule

__all__ = [
    "CapsuleLayer",
    "CapsuleLength",
    "CapsuleMask",
    "ConvCapsule",
    "DigitCapsule",
    "EMRoutingCapsule",
    "PoseNormalization",
    "PrimaryCapsule",
]
