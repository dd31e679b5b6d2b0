"""White-box attacks, and how well networks withstand them."""

from keras_capsules.robustness.accuracy import accuracy_under_attack
from keras_capsules.robustness.attacks import bim, fgsm

__all__ = ["accuracy_under_attack", "bim", "fgsm"]
