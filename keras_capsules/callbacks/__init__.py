"""Callbacks for training capsule networks."""

from keras_capsules.callbacks.checkpoint import Checkpoint

__all__ = ["Checkpoint"]
