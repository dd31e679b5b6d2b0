"""The networks of the papers."""

import keras

from keras_capsules.models.baseline_cnn import BaselineCNN
from keras_capsules.models.capsnet import CapsNet
from keras_capsules.models.capsule_network import CapsuleNetwork
from keras_capsules.models.classifier import Classifier
from keras_capsules.models.matrix_capsnet import MatrixCapsNet

# An .h5 file names the class of a network without the package.
keras.saving.get_custom_objects().update(
    {network.__name__: network for network in (BaselineCNN, CapsNet, MatrixCapsNet)}
)

__all__ = ["BaselineCNN", "CapsNet", "CapsuleNetwork", "Classifier", "MatrixCapsNet"]
