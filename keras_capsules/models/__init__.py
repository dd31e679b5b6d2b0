"""Networks of the papers, and base classes for other capsule networks."""

import keras

from keras_capsules.models.baseline_cnn import BaselineCNN
from keras_capsules.models.capsnet import CapsNet
from keras_capsules.models.capsule_classifier import CapsuleClassifier
from keras_capsules.models.capsule_network import CapsuleNetwork
from keras_capsules.models.classifier import Classifier
from keras_capsules.models.efficient_capsnet import EfficientCapsNet
from keras_capsules.models.matrix_capsnet import MatrixCapsNet
from keras_capsules.models.residual_backbone import residual_backbone
from keras_capsules.models.vector_capsule_network import VectorCapsuleNetwork

_NETWORKS = BaselineCNN, CapsNet, CapsuleClassifier, EfficientCapsNet, MatrixCapsNet
# An .h5 file stores the class name of a network without the package name.
keras.saving.get_custom_objects().update({n.__name__: n for n in _NETWORKS})

__all__ = [
    "BaselineCNN",
    "CapsNet",
    "CapsuleClassifier",
    "CapsuleNetwork",
    "Classifier",
    "EfficientCapsNet",
    "MatrixCapsNet",
    "VectorCapsuleNetwork",
    "residual_backbone",
]
