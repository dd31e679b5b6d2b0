import keras
import numpy as np
import pytest

from keras_capsules._backend import assert_in_graph


def above_zero(x):
    return keras.ops.all(x > 0.0)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="only TensorFlow has a means for it"
)
def test_a_graph_checks_values_when_it_runs():
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.int32)])
    def same(x):
        assert_in_graph(above_zero, x, "all must be above 0")
        return x

    assert same(np.array([1, 2], "int32")).shape == (2,)
    with pytest.raises(tf.errors.InvalidArgumentError, match="all must be above 0"):
        same(np.array([1, 0], "int32"))


def test_what_is_no_tensor_is_not_checked():
    assert_in_graph(above_zero, np.array([-1.0]), "all must be above 0")
