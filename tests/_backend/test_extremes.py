import keras
import numpy as np
from helpers import close

from keras_capsules._backend import amax, amin


def test_extremes_along_an_axis():
    x = np.random.default_rng(0).normal(size=(3, 4, 5)).astype("float32")
    tensor = keras.ops.convert_to_tensor(x)
    close(amax(tensor, axis=1), x.max(1))
    close(amin(tensor, axis=-1, keepdims=True), x.min(-1, keepdims=True))


def test_of_no_images():
    empty = keras.ops.zeros((0, 4, 5))
    assert tuple(amax(empty, axis=1, keepdims=True).shape) == (0, 1, 5)
    assert tuple(amin(empty, axis=-1).shape) == (0, 4)
