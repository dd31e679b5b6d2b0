import keras
import numpy as np
import pytest
from helpers import close, gradients

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
        lambda x, y: custom_gradient(forward, backward, x, y),
        np.array([1.0, 2.0], "float32"),
        np.array([3.0, 5.0], "float32"),
        weights=np.array([1.0, 10.0]),
    )
    close(dx, [4.0, 70.0])
    close(dy, [1.0, 20.0])


@pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="others differentiate it again"
)
def test_a_second_derivative_is_refused():
    import torch

    x = torch.ones(2, requires_grad=True)
    square = custom_gradient(
        lambda x: (x * x, ()), lambda upstream, kept, x: (2.0 * upstream * x,), x
    )
    (slope,) = torch.autograd.grad(square.sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="second derivative"):
        slope.sum().backward()
