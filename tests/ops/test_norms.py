import keras
import numpy as np
import pytest
from helpers import close, finite, golden, gradients, slope
from reference import squash as reference_squash

from keras_capsules._backend import float64
from keras_capsules.ops import (
    at_least_float32,
    exponential_squash,
    safe_norm,
    squash,
)
from keras_capsules.ops.norms import at_least


def reference_exponential_squash(x, epsilon=1e-7):
    length = np.sqrt(np.sum(x**2, -1, keepdims=True) + epsilon)
    return (1.0 - np.exp(-length)) * x / length


def test_squash_matches_golden():
    case = golden("squash")
    close(squash(case["x"].astype("float32")), case["y"])


def test_squash_along_another_axis():
    x = np.random.default_rng(0).normal(size=(3, 5, 4)).astype("float32")
    close(squash(x, axis=1), np.swapaxes(reference_squash(np.swapaxes(x, 1, 2)), 1, 2))


def test_squash_gradient_matches_finite_differences():
    rng = np.random.default_rng(0)
    x, weights, direction = rng.normal(size=(3, 4, 7, 8))
    (gradient,) = gradients(squash, x.astype("float32"), weights=weights)
    expected = slope(lambda x: reference_squash(x) * weights, [x], [direction])
    assert np.sum(gradient * direction) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("scale", [1e-4, 0.03, 1.0, 30.0])
def test_exponential_squash_is_that_of_the_formula(scale):
    x = scale * np.random.default_rng(0).normal(size=(3, 5, 4))
    found = exponential_squash(x.astype("float32"))
    close(found, reference_exponential_squash(x), rtol=1e-4, atol=0.0)
    assert (np.linalg.norm(keras.ops.convert_to_numpy(found), axis=-1) <= 1.0).all()


def test_exponential_squash_is_precise_for_short_vectors():
    x = 1e-6 * np.random.default_rng(0).normal(size=(3, 5, 4))
    expected = reference_exponential_squash(x, epsilon=1e-20)
    found = exponential_squash(x.astype("float32"), epsilon=1e-20)
    close(found, expected, atol=0.0)


def test_exponential_squash_along_other_axes():
    x = np.random.default_rng(0).normal(size=(3, 5, 4)).astype("float32")
    expected = reference_exponential_squash(np.swapaxes(x, 1, 2))
    close(exponential_squash(x, axis=1), np.swapaxes(expected, 1, 2))
    expected = reference_exponential_squash(x.reshape(3, 20)).reshape(x.shape)
    close(exponential_squash(x, axis=(1, 2)), expected)
    expected = reference_exponential_squash(x, epsilon=0.5)
    close(exponential_squash(x, epsilon=0.5), expected)


@pytest.mark.parametrize("scale", [0.01, 1.0, 3.0])
def test_exponential_squash_gradient_matches_finite_differences(scale):
    rng = np.random.default_rng(0)
    x, weights, direction = rng.normal(size=(3, 4, 7, 8))
    x *= scale
    (gradient,) = gradients(exponential_squash, x.astype("float32"), weights=weights)
    expected = slope(
        lambda x: reference_exponential_squash(x) * weights, [x], [direction]
    )
    assert np.sum(gradient * direction) == pytest.approx(expected, rel=1e-3)


def test_exponential_squash_lets_the_whole_gradient_through_at_zero():
    x = np.zeros((2, 8), "float32")
    close(gradients(exponential_squash, x)[0], np.ones((2, 8)), rtol=1e-3)
    assert abs(gradients(squash, x)[0]).max() < 1e-3


@pytest.mark.parametrize("scale", [0.0, 1e-12, 1e4, 1e15])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("function", [squash, exponential_squash, safe_norm])
def test_finite_with_finite_gradient(function, dtype, scale):
    x = np.full((2, 8), min(scale, 6e4) if dtype == "float16" else scale, "float32")

    def call(x):
        return keras.ops.cast(function(keras.ops.cast(x, dtype)), "float32")

    assert finite(call(x), *gradients(call, x))


@pytest.mark.parametrize("value", [1e20, 3e38, np.inf])
@pytest.mark.parametrize("function", [squash, exponential_squash])
def test_squash_survives_overflow(function, value):
    x = np.array([[value, 1.0]], "float32")
    close(function(x), [[1.0, 0.0]])
    assert finite(*gradients(function, x))


@pytest.mark.parametrize("function", [squash, exponential_squash])
def test_squash_keeps_dtype_and_length_below_one(function):
    y = function(keras.ops.ones((2, 8), "float16") * 1e4)
    assert keras.backend.standardize_dtype(y.dtype) == "float16"
    assert float(safe_norm(y)[0]) == pytest.approx(1.0, abs=1e-3)


def test_exponential_squash_keeps_float64():
    x = np.random.default_rng(0).normal(size=(3, 4))
    with float64():
        found = keras.ops.convert_to_numpy(exponential_squash(x))
    assert found.dtype == "float64"
    np.testing.assert_allclose(found, reference_exponential_squash(x), rtol=1e-12)


def test_safe_norm_keeps_axis():
    x = np.random.default_rng(0).normal(size=(3, 5, 4)).astype("float32")
    close(
        safe_norm(x, axis=(1, 2), keepdims=True)[:, 0, 0], np.sqrt((x**2).sum((1, 2)))
    )


@pytest.mark.parametrize(
    ("dtype", "wide"),
    [("float16", "float32"), ("bfloat16", "float32"), ("float32", "float32")],
)
def test_at_least_float32(dtype, wide):
    x = at_least_float32(keras.ops.ones((2,), dtype))
    assert keras.backend.standardize_dtype(x.dtype) == wide


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_at_least_is_the_larger_in_the_dtype_of_the_first(dtype):
    x = keras.ops.cast([-2.0, 0.5, 3.0], dtype)
    for least in (0.5, keras.ops.cast([0.5, 0.5, 0.5], dtype)):
        found = at_least(x, least)
        assert keras.backend.standardize_dtype(found.dtype) == dtype
        close(found, [0.5, 0.5, 3.0])
    close(at_least(x[:, None], keras.ops.cast([1.0, 0.0], dtype))[0], [1.0, 0.0])


def test_at_least_keeps_float64():
    with float64():
        x, least = (
            keras.ops.convert_to_tensor(values, "float64")
            for values in ([1.0 + 1e-12, 0.0], [0.1, 0.1])
        )
        found = keras.ops.convert_to_numpy(at_least(x, least))
        assert found.dtype == "float64" and found.tolist() == [1.0 + 1e-12, 0.1]
        found = keras.ops.convert_to_numpy(at_least(x, 0.1))
        assert found.dtype == "float64" and found[0] == 1.0 + 1e-12


def test_at_least_keeps_the_digits_of_a_number():
    with float64():
        x = keras.ops.convert_to_tensor([0.0], "float64")
        assert keras.ops.convert_to_numpy(at_least(x, 0.1)).tolist() == [0.1]


def test_at_least_has_the_gradient_of_the_larger():
    x, least = np.array([[1.0, 2.0], [2.0, 1.0]], "float32")
    of_x, of_least = gradients(at_least, x, least)
    close(of_x, [0.0, 1.0])
    close(of_least, [1.0, 0.0])
