import keras
import numpy as np
import pytest
from helpers import close

from keras_capsules.routing import Moments, Polynomial


@pytest.fixture
def case():
    """Votes and weights, and their moments about a center that is not their mean."""
    rng = np.random.default_rng(0)
    votes, weights = rng.normal(size=(2, 3, 5, 4)), rng.uniform(size=(2, 3, 5))
    center = rng.normal(size=(2, 3, 4))
    away = votes - center[:, :, None]
    moments = [np.einsum("nji,njih->njh", weights, x) for x in (away, away**2)]
    arrays = weights.sum(-1, keepdims=True), *moments, center
    tensors = (keras.ops.convert_to_tensor(x, "float32") for x in arrays)
    return votes, weights, Moments(*tensors)


def test_sums_do_not_depend_on_the_center(case):
    votes, weights, moments = case
    close(moments.mass[..., 0], weights.sum(-1))
    close(moments.sum, np.einsum("nji,njih->njh", weights, votes), atol=1e-5)
    about = np.random.default_rng(1).normal(size=(2, 3, 4)).astype("float32")
    away = (votes - about[:, :, None]) ** 2
    found = moments.squares(keras.ops.convert_to_tensor(about))
    close(found, np.einsum("nji,njih->njh", weights, away), atol=1e-5)


def test_squares_need_second_moments(case):
    *_, moments = case
    with pytest.raises(ValueError, match="`second_moments`"):
        moments._replace(squared_deviations=None).squares(about=0.0)


def test_a_polynomial_is_the_same_about_another_center(case):
    votes, _, moments = case
    rng = np.random.default_rng(1)
    constant, (linear, quadratic, about) = (
        rng.normal(size=(2, 3)),
        rng.normal(size=(3, 2, 3, 4)),
    )
    away = votes - about[:, :, None]
    expected = constant[..., None] + np.sum(
        linear[:, :, None] * away + quadratic[:, :, None] * away**2, axis=-1
    )
    arrays = (constant, linear, quadratic, about)
    tensors = (keras.ops.convert_to_tensor(x, "float32") for x in arrays)
    c0, c1, c2 = Polynomial(*tensors).recentered(moments.center)
    c0, c1, c2, center = map(keras.ops.convert_to_numpy, (c0, c1, c2, moments.center))
    u = votes - center[:, :, None]
    found = c0[..., None] + np.sum(c1[:, :, None] * u + c2[:, :, None] * u**2, -1)
    close(found, expected, rtol=1e-3, atol=1e-4)


def test_coefficients_may_be_numbers():
    assert Polynomial(linear=2.0).recentered(0.0) == (0.0, 2.0, 0.0)
    assert Polynomial(linear=2.0, about=1.5).recentered(1.5) == (0.0, 2.0, 0.0)
    assert not Polynomial(about=1.5).is_about(0.0)
