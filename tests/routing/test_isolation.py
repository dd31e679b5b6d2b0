"""What an image holds changes nothing that the package says of another image."""

import keras
import numpy as np
import pytest
from helpers import close, float32, small_capsnet, small_matrix_capsnet

from keras_capsules import layers, routing

BAD = [np.nan, np.inf, -np.inf]


def check(function, *arrays):
    """All images but the second are seen alike, whatever the second holds."""
    others = [0, 2, 3]
    expected = [x[others] for x in numpy(function(*arrays))]
    for bad in BAD:
        spoiled = [x.copy() for x in arrays]
        for x in spoiled:
            x[1].flat[::2] = bad
        for found, clean in zip(numpy(function(*spoiled)), expected, strict=True):
            close(found[others], clean, rtol=1e-6, atol=1e-7)


def numpy(outputs):
    return [keras.ops.convert_to_numpy(x) for x in keras.tree.flatten(outputs)]


@pytest.mark.parametrize("name", routing.names())
@pytest.mark.parametrize("block", [None, 2])
def test_of_routings(name, block):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(6, 3, 4, 4)).astype("float32")
    arrays = float32(rng.normal(size=(4, 6, 4, 4)), rng.random((4, 6)))
    route = type(routing.get(name))(block=block)
    check(lambda poses, active: route(poses, kernel, active), *arrays)


@pytest.mark.parametrize("competition", ["image", "patch"])
@pytest.mark.parametrize("name", ["em", "variational_bayes"])
def test_of_layers_whose_parents_compete(name, competition):
    rng = np.random.default_rng(0)
    arrays = float32(rng.normal(size=(4, 4, 4, 2, 4, 4)), rng.random((4, 4, 4, 2)))
    route = type(routing.get(name))(competition=competition)
    layer = layers.ConvCapsule(3, padding="same", routing=route)
    check(lambda *inputs: layer(inputs), *arrays)


@pytest.mark.parametrize("network", [small_capsnet, small_matrix_capsnet])
def test_of_networks(network):
    model = network()
    images = np.random.default_rng(0).random((4, *model.image_shape), "float32")
    check(model.predict_on_batch, images)
