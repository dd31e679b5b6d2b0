import numpy as np
import pytest

from keras_capsules import validation


@pytest.mark.parametrize("value", [0, -1, 1.5, "3", None, True])
def test_positive_integer_names_what_it_got(value):
    with pytest.raises(ValueError, match=r"`capsules` must be an integer of at least"):
        validation.check_positive_integer("capsules", value)


def test_positive_integer_takes_numpys_integers():
    value = validation.check_positive_integer("capsules", np.int64(3))
    assert value == 3 and type(value) is int


@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan"), "0.9", None, True])
def test_momentum_is_below_1(value):
    assert validation.check_momentum("momentum", 0.0) == 0.0
    with pytest.raises(ValueError, match="`momentum` must be a number from 0 to"):
        validation.check_momentum("momentum", value)


@pytest.mark.parametrize("value", [0.9, float("nan"), float("inf"), "1", None, True])
def test_at_least(value):
    assert validation.check_at_least("epsilon", 1.0, 1.0) == 1.0
    with pytest.raises(ValueError, match="`epsilon` must be a finite number of at"):
        validation.check_at_least("epsilon", value, 1.0)


def test_positive_integers():
    assert validation.check_positive_integers("input_shape", [2, 3], 2) == (2, 3)
    assert validation.check_positive_integers("decoder_units", (), None) == ()


def test_window_repeats_an_integer():
    assert validation.check_window("strides", 2) == (2, 2)
    assert validation.check_window("strides", (2, 3)) == (2, 3)


@pytest.mark.parametrize("value", [(1, 2, 3), 0, (1, 0), "ab", None, 2.0])
def test_window_rejects(value):
    with pytest.raises(ValueError, match="`strides`"):
        validation.check_window("strides", value)


def test_one_of_lists_what_is_allowed():
    with pytest.raises(ValueError, match=r"`loop` must be one of \('while', 'unroll'"):
        validation.check_one_of("loop", "for", ("while", "unroll"))


def test_shape_checks_rank_and_static_sizes():
    assert validation.check_shape("x", [None, 3], "(batch, n)", 2, static=(1,)) == (
        None,
        3,
    )
    with pytest.raises(ValueError, match=r"`x` must have shape \(batch, n\)"):
        validation.check_shape("x", (None, 3, 3), "(batch, n)", 2)
    with pytest.raises(ValueError, match="known sizes"):
        validation.check_shape("x", (None, None), "(batch, n)", 2, static=(1,))


def test_flag():
    assert validation.check_flag("stop_gradient", False) is False
    for value in ("no", 1, None):
        with pytest.raises(ValueError, match="`stop_gradient` must be True or False"):
            validation.check_flag("stop_gradient", value)


@pytest.mark.parametrize("value", [0, 0.5, np.float32(2)])
def test_at_least_zero(value):
    assert validation.check_at_least("weight", value, 0) == value


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "1", None, True])
def test_at_least_zero_rejects(value):
    with pytest.raises(ValueError, match="`weight` must be a finite number of at"):
        validation.check_at_least("weight", value, 0)
