import keras
import numpy as np
from helpers import close, gradients

from keras_capsules._backend import digamma, expm1


def test_digamma_and_its_gradient():
    x = np.array([0.1, 0.5, 1.0, 2.0, 10.0, 1000.0], "float32")
    # From the recurrence digamma(x) = digamma(x + 1) - 1 / x and the asymptotic series.
    y, expected, slope = x.astype("float64"), np.zeros(6), np.zeros(6)
    for _ in range(20):
        expected, slope, y = expected - 1 / y, slope + 1 / y**2, y + 1
    expected += np.log(y) - 1 / (2 * y) - 1 / (12 * y**2) + 1 / (120 * y**4)
    slope += 1 / y + 1 / (2 * y**2) + 1 / (6 * y**3) - 1 / (30 * y**5)
    close(digamma(keras.ops.convert_to_tensor(x)), expected, rtol=1e-5)
    (found,) = gradients(digamma, x)
    close(found, slope, rtol=1e-4)


def test_expm1_and_its_gradient():
    x = np.array([-80.0, -1.0, -1e-5, 1e-6, 1e-3, 1.0], "float32")
    close(expm1(keras.ops.convert_to_tensor(x)), np.expm1(x), rtol=1e-5, atol=0.0)
    (found,) = gradients(expm1, x)
    close(found, np.exp(x), rtol=1e-4)
