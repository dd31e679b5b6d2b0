import keras
import numpy as np
import pytest

from keras_capsules import models
from keras_capsules._backend import Conv2D


@pytest.mark.parametrize(
    ("shape", "grid"),
    [
        ((8, 8, 1), (8, 8, 4)),
        ((32, 32, 3), (8, 8, 16)),
        ((33, 20, 3), (5, 3, 32)),
        ((64, 64, 3), (8, 8, 16)),
        ((128, 128, 3), (8, 8, 16)),
        ((224, 224, 3), (7, 7, 32)),
        ((96, 300, 1), (2, 5, 64)),
    ],
)
def test_any_size_leaves_a_small_grid(shape, grid):
    model = models.residual_backbone(shape, width=4, blocks=1)
    assert model.output_shape == (None, *grid)


def test_the_gradients_of_narrow_networks_stay_in_their_memory():
    """The layers of Keras would compute strided 1×1 convolutions with oneDNN."""
    model = models.residual_backbone((32, 32, 3), width=4)
    convolutions = [layer for layer in model.layers if hasattr(layer, "strides")]
    assert {type(layer) for layer in convolutions} == {Conv2D}
    assert ((1, 1), (2, 2)) in {(x.kernel_size, x.strides) for x in convolutions}


def test_a_block_begins_near_its_input():
    """What goes past the convolutions reaches the features."""
    model = models.residual_backbone((8, 8, 1), width=4, blocks=2)
    for layer in model.layers[4:]:
        if hasattr(layer, "kernel"):
            layer.kernel.assign(0.0 * layer.kernel)
    stem = model.layers[3].output
    images = np.random.default_rng(0).random((2, 8, 8, 1), "float32")
    expected = keras.Model(model.input, stem).predict(images, verbose=0)
    np.testing.assert_allclose(model.predict(images, verbose=0), expected, rtol=1e-5)
    assert expected.max() > 0.0


@pytest.mark.parametrize(
    ("argument", "value"),
    [("input_shape", (7, 8, 1)), ("input_shape", (8, 8)), ("width", 0), ("blocks", 0)],
)
def test_bad_arguments(argument, value):
    arguments = {"input_shape": (8, 8, 1), argument: value}
    with pytest.raises(ValueError, match=f"`{argument}`"):
        models.residual_backbone(**arguments)
