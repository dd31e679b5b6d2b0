import keras
import numpy as np
from helpers import close

from keras_capsules._backend import float64, matmul, mean


def test_tensors_and_products_keep_64_bits():
    x = 1.0 + 1e-12 * np.arange(6.0).reshape(2, 3)
    with float64():
        tensor = keras.ops.convert_to_tensor(x, "float64")
        product = matmul(tensor, keras.ops.transpose(tensor))
        assert keras.backend.standardize_dtype(product.dtype) == "float64"
        found = keras.ops.convert_to_numpy(product)
        means = keras.ops.convert_to_numpy(mean(tensor, axis=1))
    np.testing.assert_allclose(means, x.mean(1, keepdims=True), rtol=1e-15)
    np.testing.assert_allclose(found, x @ x.T, rtol=1e-15)


def test_afterwards_it_is_as_before():
    before = keras.ops.convert_to_tensor(np.ones(2)).dtype
    with float64():
        pass
    assert keras.ops.convert_to_tensor(np.ones(2)).dtype == before


def test_other_products_are_those_of_keras():
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
    y = np.swapaxes(x, 1, 2)
    close(matmul(keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(y)), x @ y)
