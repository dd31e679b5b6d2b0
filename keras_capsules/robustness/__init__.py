"""White-box adversarial attacks and the accuracy of networks under attack."""

from keras_capsules.robustness.accuracy import accuracy_under_attack
from keras_capsules.robustness.attacks import bim, fgsm
from keras_capsules.robustness.cross_entropy import cross_entropy

__all__ = ["accuracy_under_attack", "bim", "cross_entropy", "fgsm"]
