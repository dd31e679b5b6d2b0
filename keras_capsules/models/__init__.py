"""The networks of the papers."""

from keras_capsules.models.baseline_cnn import BaselineCNN
from keras_capsules.models.capsnet import CapsNet
from keras_capsules.models.capsule_network import CapsuleNetwork
from keras_capsules.models.classifier import Classifier
from keras_capsules.models.matrix_capsnet import MatrixCapsNet

__all__ = ["BaselineCNN", "CapsNet", "CapsuleNetwork", "Classifier", "MatrixCapsNet"]
