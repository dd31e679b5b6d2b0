import keras
import pytest

from keras_capsules._backend import with_static_shape


def test_what_is_known_stays_as_it_is():
    x = keras.ops.ones((2, 3))
    assert with_static_shape(x, (None, 5)) is x


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="sizes are always known elsewhere"
)
def test_sizes_are_checked_when_the_graph_runs():
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec(None)])
    def function(x):
        x = with_static_shape(x, (None, 3))
        assert tuple(x.shape) == (None, 3)
        return x

    function(tf.ones((2, 3)))
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected shape"):
        function(tf.ones((2, 4)))
