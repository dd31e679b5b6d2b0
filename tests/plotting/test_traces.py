import numpy as np
import pytest
from helpers import small_capsnet, small_matrix_capsnet

from keras_capsules import models
from keras_capsules.plotting.traces import class_trace


def test_arrays_of_the_class_capsules():
    trace = class_trace(small_matrix_capsnet(), np.random.rand(2, 20, 19, 1))
    assert trace["activations"].shape == (2, 2, 3)
    assert isinstance(trace["weights"], np.ndarray)


def test_activations_of_dynamic_routing_are_lengths():
    trace = class_trace(small_capsnet(), np.random.rand(2, 16, 14, 1))
    lengths = np.linalg.norm(trace["parents"], axis=(-2, -1))
    np.testing.assert_allclose(trace["activations"], lengths)


def test_a_network_without_trace():
    with pytest.raises(ValueError, match="`model`"):
        class_trace(models.BaselineCNN((16, 14, 1), 3), np.zeros((1, 16, 14, 1)))
