import keras
import numpy as np
import pytest
from helpers import close

from keras_capsules import routing

if keras.backend.backend() != "tensorflow":
    pytest.skip("the references are plain TensorFlow", allow_module_level=True)

from benchmarks.references import TextbookEMRouting, TiledRouting


def test_tiled_dynamic_routing_is_dynamic_routing():
    rng = np.random.default_rng(0)
    poses = rng.normal(size=(3, 7, 1, 4)).astype("float32")
    kernel = rng.normal(size=(7, 5, 4, 6)).astype("float32")
    expected = routing.DynamicRouting(3)(poses, kernel)
    close(TiledRouting(3)(poses, kernel), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("iterations", [3, 5])
def test_textbook_em_routing_is_em_routing_in_a_patch(iterations):
    rng = np.random.default_rng(0)
    poses = rng.normal(size=(3, 7, 4, 4)).astype("float32")
    kernel = 0.5 * rng.normal(size=(7, 5, 4, 4)).astype("float32")
    activations = rng.uniform(0.2, 0.9, size=(3, 7)).astype("float32")
    ours = routing.EMRouting(iterations, competition="patch", cost="paper")
    routings = TextbookEMRouting(iterations, cost="paper"), ours
    outputs = [route(poses, kernel, activations) for route in routings]
    # The textbook has no floor under the mass, a thousandth of a random share.
    for a, b in zip(*outputs, strict=True):
        close(a, b, rtol=5e-3, atol=5e-3)
