"""Export of trained networks to SavedModel, ONNX and LiteRT."""

from keras_capsules.export.litert import export_litert
from keras_capsules.export.onnx import export_onnx
from keras_capsules.export.saved_model import export_saved_model

__all__ = ["export_litert", "export_onnx", "export_saved_model"]
