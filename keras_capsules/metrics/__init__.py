"""Metrics of capsule networks."""

from keras_capsules.metrics.exact_match import ExactMatch

__all__ = ["ExactMatch"]
