"""Capsule layers: who may talk to whom."""

from keras_capsules.layers.capsule_length import CapsuleLength
from keras_capsules.layers.capsule_mask import CapsuleMask
from keras_capsules.layers.digit_capsule import DigitCapsule
from keras_capsules.layers.primary_capsule import PrimaryCapsule

__all__ = ["CapsuleLength", "CapsuleMask", "DigitCapsule", "PrimaryCapsule"]
