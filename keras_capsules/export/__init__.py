"""Trained networks as SavedModels, for programs without this package."""

from keras_capsules.export.saved_model import export_saved_model

__all__ = ["export_saved_model"]
