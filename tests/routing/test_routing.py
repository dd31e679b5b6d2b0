import keras
import pytest

from keras_capsules import routing


def test_get_by_name_instance_and_config():
    five = routing.DynamicRouting(iterations=5, loop="unroll", stop_gradient=True)
    assert routing.get("dynamic").iterations == 3
    assert routing.get(five) is five
    again = routing.get(keras.saving.serialize_keras_object(five))
    assert again.get_config() == five.get_config()


@pytest.mark.parametrize(
    "identifier", ["no-such-routing", None, 3, keras.layers.Dense(3)]
)
def test_get_rejects(identifier):
    with pytest.raises(ValueError, match="`routing` must be one of"):
        routing.get(identifier)
