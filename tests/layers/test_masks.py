import keras
import numpy as np
import pytest

from keras_capsules.layers.masks import mask_of

X = np.zeros((2, 3, 4, 5), "float32")


def test_no_mask():
    assert mask_of(None, X, 4) is None
    assert mask_of((None, None), X, 4) is None


def test_numbers_with_axes_at_the_end():
    mask = np.array([[True, False, True], [False, True, True]])
    found = mask_of(mask, keras.ops.convert_to_tensor(X), 4)
    assert tuple(found.shape) == (2, 3, 1, 1)
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(found)[..., 0, 0], [[1, 0, 1], [0, 1, 1]]
    )


def test_the_first_mask_of_a_pair_counts():
    ones = np.ones((2, 3), bool)
    found = mask_of((ones, ~ones), X, 2)
    assert float(keras.ops.min(found)) == 1.0
    found = mask_of((None, ones), X, 2)
    assert float(keras.ops.min(found)) == 1.0


def test_nested_lists_are_one_mask():
    rows = [[True, False, True], [True, True, False]]
    found, expected = (mask_of(mask, X, 2) for mask in (rows, np.array(rows)))
    assert bool(keras.ops.all(found == expected))


@pytest.mark.parametrize("shape", [(2, 4), (3, 3), (2, 3, 4, 5)])
def test_other_axes_are_refused(shape):
    with pytest.raises(ValueError, match="`mask` must have at most 3 axes"):
        mask_of(np.ones(shape, bool), X, 3)
