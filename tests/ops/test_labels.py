import keras
import numpy as np
import pytest
from helpers import close

from keras_capsules.ops import check_labels, class_indicators


@pytest.mark.parametrize(
    "labels",
    [
        np.array([2, 0]),
        np.array([[2], [0]]),
        np.array([2.0, 0.0], "float32"),
        np.array([[0, 0, 1], [1, 0, 0]]),
        np.array([[False, False, True], [True, False, False]]),
        np.array([[0, 0, 1], [1, 0, 0]], "float32"),
    ],
)
def test_every_kind_of_label_gives_indicators(labels):
    close(class_indicators(labels, 3), [[0, 0, 1], [1, 0, 0]])


def test_several_classes_at_once():
    close(class_indicators(np.array([[1, 0, 1]]), 3), [[1, 0, 1]])


def test_one_class():
    close(class_indicators(np.array([[1.0], [0.0]], "float32"), 1), [[1], [0]])


@pytest.mark.parametrize("shape", [(), (4, 2), (4, 3, 1)])
def test_wrong_shape(shape):
    with pytest.raises(ValueError, match=r"`y_true` must have shape .*\(batch, 3\)"):
        class_indicators(np.zeros(shape, "int32"), 3, "y_true")


@pytest.mark.parametrize(
    "labels", [[0, 3], [-1, 0], [[0, 0, 2]], [[0.5, -0.5, 0.0]], [float("nan")]]
)
def test_label_outside_the_classes(labels):
    with pytest.raises(ValueError, match="`labels` holds the label"):
        class_indicators(np.array(labels), 3)


def test_check_labels_accepts_lists_and_symbols():
    check_labels([0, 2], 3)
    check_labels(keras.KerasTensor((None, 3)), 3)
