import keras
import numpy as np
import pytest
from helpers import close, finite, golden, gradients, slope
from reference import squash as reference_squash

from keras_capsules.ops import at_least_float32, safe_norm, squash


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


@pytest.mark.parametrize("scale", [0.0, 1e-12, 1e4, 1e15])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("function", [squash, safe_norm])
def test_finite_with_finite_gradient(function, dtype, scale):
    x = np.full((2, 8), min(scale, 6e4) if dtype == "float16" else scale, "float32")

    def call(x):
        return keras.ops.cast(function(keras.ops.cast(x, dtype)), "float32")

    assert finite(call(x), *gradients(call, x))


@pytest.mark.parametrize("value", [1e20, 3e38, np.inf])
def test_squash_survives_overflow(value):
    x = np.array([[value, 1.0]], "float32")
    close(squash(x), [[1.0, 0.0]])
    assert finite(*gradients(squash, x))


def test_squash_keeps_dtype_and_length_below_one():
    y = squash(keras.ops.ones((2, 8), "float16") * 1e4)
    assert keras.backend.standardize_dtype(y.dtype) == "float16"
    assert float(safe_norm(y)[0]) == pytest.approx(1.0, abs=1e-3)


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
