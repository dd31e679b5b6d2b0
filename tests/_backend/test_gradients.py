import keras
from helpers import close

from keras_capsules._backend import vjp


def test_pulls_back_through_several_outputs():
    x, y = keras.ops.convert_to_tensor([1.0, 2.0]), keras.ops.convert_to_tensor(3.0)
    (a, b), pull = vjp(lambda x, y: (x * y, keras.ops.sum(x * x)), x, y)
    close(a, [3.0, 6.0])
    close(b, 5.0)
    dx, dy = pull(keras.ops.ones((2,)), keras.ops.convert_to_tensor(10.0))
    close(dx, [23.0, 43.0])
    close(dy, 3.0)


def test_what_has_no_part_gets_zeros():
    x, y = keras.ops.ones((2,)), keras.ops.ones((3,))
    _, pull = vjp(lambda x, y: 2.0 * x, x, y)
    dx, dy = pull(keras.ops.ones((2,)))
    close(dx, [2.0, 2.0])
    close(dy, [0.0, 0.0, 0.0])
    _, pull = vjp(lambda x: (keras.ops.stop_gradient(x),), x)
    close(pull(keras.ops.ones((2,)))[0], [0.0, 0.0])
