"""The networks of the papers."""

from keras_capsules.models.capsnet import CapsNet

__all__ = ["CapsNet"]
