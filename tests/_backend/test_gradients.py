import weakref

import keras
import numpy as np
from helpers import close, gradients, hessian_product

from keras_capsules._backend import custom_gradient, vjp


def test_pulls_back_through_several_outputs():
    x, y = keras.ops.convert_to_tensor([1.0, 2.0]), keras.ops.convert_to_tensor(3.0)
    (a, b), pull = vjp(lambda x, y: (x * y, keras.ops.sum(x * x)), x, y)
    close(a, [3.0, 6.0])
    close(b, 5.0)
    dx, dy = pull(keras.ops.ones((2,)), keras.ops.convert_to_tensor(10.0))
    close(dx, [23.0, 43.0])
    close(dy, 3.0)


def test_what_has_no_part_has_no_gradient():
    x, y = keras.ops.ones((2,)), keras.ops.ones((3,))
    _, pull = vjp(lambda x, y: 2.0 * x, x, y)
    dx, dy = pull(keras.ops.ones((2,)))
    close(dx, [2.0, 2.0])
    assert dy is None or not np.any(keras.ops.convert_to_numpy(dy))
    _, pull = vjp(lambda x: (keras.ops.stop_gradient(x),), x)
    (dx,) = pull(keras.ops.ones((2,)))
    assert dx is None or not np.any(keras.ops.convert_to_numpy(dx))


def test_a_custom_gradient_gets_what_was_kept_and_the_inputs():
    def forward(x, y):
        return x * y, (x + y,)

    def backward(upstream, kept, x, y):
        (total,) = kept
        return upstream * total, upstream * x

    dx, dy = gradients(
        lambda x, y: custom_gradient(forward, backward, None, x, y),
        np.array([1.0, 2.0], "float32"),
        np.array([3.0, 5.0], "float32"),
        weights=np.array([1.0, 10.0]),
    )
    close(dx, [4.0, 70.0])
    close(dy, [1.0, 20.0])


def cubed(x, y):
    """`x³ y`; what is kept of it must not be needed for a second derivative."""
    return custom_gradient(
        lambda x, y: (x**3 * y, (3.0 * x**2,)),
        lambda upstream, kept, x, y: (upstream * kept[0] * y, upstream * x**3),
        lambda x, y: x**3 * y,
        x,
        y,
    )


def test_second_derivatives():
    arrays = np.array([1.0, 2.0], "float32"), np.array([3.0, 5.0], "float32")
    directions = np.array([1.0, -2.0], "float32"), np.array([0.5, 4.0], "float32")
    (x, y), (dx, dy) = arrays, directions
    close_to_x, close_to_y = hessian_product(cubed, arrays, directions)
    close(close_to_x, 6.0 * x * y * dx + 3.0 * x**2 * dy)
    close(close_to_y, 3.0 * x**2 * dx)


def test_second_derivatives_where_one_input_is_made_of_the_other():
    x, dx = np.array([1.0, 2.0], "float32"), np.array([1.0, -2.0], "float32")
    (found,) = hessian_product(lambda x: cubed(x, 2.0 * x), [x], [dx])
    close(found, 24.0 * x**2 * dx)


def test_what_forward_and_backward_compute_is_not_kept():
    made = []

    def noted(x):
        made.append(weakref.ref(x))
        return x

    def forward(x):
        return keras.ops.sum(noted(x * x)), ()

    def backward(upstream, kept, x):
        return (upstream * keras.ops.sign(noted(2.0 * x)) * 2.0,)

    def function(x):
        y = custom_gradient(forward, backward, lambda x: keras.ops.sum(x * x), x)
        alive.append(sum(x() is not None for x in made))
        return y

    alive = []
    gradients(function, np.ones((3,), "float32"))
    assert alive == [0] and len(made) == 2
    assert all(x() is None for x in made)
