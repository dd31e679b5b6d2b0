"""In float64 everything is computed in float64, on every backend."""

import keras
import numpy as np
import pytest
import reference
from helpers import small_capsnet, small_matrix_capsnet

from keras_capsules import layers, losses, models, routing
from keras_capsules._backend import float64


@pytest.fixture(autouse=True)
def double():
    with float64():
        yield


def arrays(outputs):
    """Outputs as arrays, which have to be float64."""
    outputs = keras.tree.flatten(outputs)
    kept = {keras.backend.standardize_dtype(x.dtype) for x in outputs}
    assert kept == {"float64"}
    return [keras.ops.convert_to_numpy(x) for x in outputs]


def exact(found, *expected):
    for x, y in zip(arrays(found), expected, strict=True):
        np.testing.assert_allclose(x, y.reshape(x.shape), rtol=1e-10, atol=1e-12)


def expected_of(name, route, poses, kernel, activations):
    """What the NumPy formulas make of children, beside what is normalized in use."""
    learned = [keras.ops.convert_to_numpy(x) for x in route.weights]
    epsilon = 1e-3  # of Keras's batch normalization
    if name == "dynamic":
        return (reference.dynamic_routing(poses[:, :, 0], kernel, 3)[0],)
    if name == "em":
        *found, _ = reference.em_routing(
            poses,
            kernel,
            activations,
            *learned[:2],
            3,
            None,
            1.0,
            agreement="product",
            relative_mass=True,
            normalization=(0.0, 1.0 / np.sqrt(1.0 + 1e-4)),
        )
        return found
    if name == "uniform":
        return (reference.uniform_routing(poses, kernel),)
    if name == "generative":
        arguments = poses, kernel, activations, *learned, 3, 1.0
        return reference.generative_routing(*arguments)[:2]
    if name == "self":
        arguments = poses, kernel, activations, *learned[:2]
        means, shares, _ = reference.self_routing(*arguments)
        return means / np.sqrt(1.0 + epsilon), shares
    if name == "variational_bayes":
        found = reference.variational_bayes_routing(poses, kernel, activations, 3)
        means, logits = (x / np.sqrt(1.0 + epsilon) for x in found[:2])
        return means, 1.0 / (1.0 + np.exp(-logits))
    if name == "self_attention":
        return (reference.self_attention_routing(poses, kernel, learned[0].T)[0],)
    return (reference.inverted_attention_routing(poses, kernel, *learned, 2)[0],)


@pytest.mark.parametrize("name", routing.names())
def test_routings_are_those_of_the_formulas(name):
    """The layer alone is float64: its routing is as precise as it is."""
    rng = np.random.default_rng(0)
    poses, activations = rng.normal(size=(4, 6, 4)), rng.uniform(0.1, 0.9, (4, 6))
    layer = layers.DigitCapsule(3, 5, routing=name, dtype="float64")
    found = layer((poses, activations))
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    given = poses[:, :, None], kernel, activations
    found = found if layer.routing.computes_activations else [found]
    expected = expected_of(name, layer.routing, *given)
    # Keras's batch normalization rounds to float32 on PyTorch and JAX.
    tensorflow = keras.backend.backend() == "tensorflow"
    rounded = name in ("em", "variational_bayes", "self") and not tensorflow
    for x, y in zip(arrays(found), expected, strict=True):
        tolerance = 1e-6 if rounded else 1e-10
        np.testing.assert_allclose(x, y.reshape(x.shape), tolerance, 0.01 * tolerance)


@pytest.mark.parametrize("floatx", [False, True])
def test_layers_keep_it(floatx):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(2, 4, 4, 2, 4, 4)), rng.random((2, 4, 4, 2))
    images = rng.random((2, 9, 9, 1))
    before = keras.config.floatx()
    policy = {} if floatx else {"dtype": "float64"}
    keras.config.set_floatx("float64" if floatx else before)
    if floatx:
        keras.config.set_dtype_policy("float64")
    try:
        arrays(layers.PrimaryCapsule(2, 4, 3, 2, **policy)(images))
        arrays(layers.PrimaryCapsule(2, (4, 4), 3, **policy)(images))
        arrays(layers.PoseNormalization(**policy)(inputs))
        arrays(layers.EMRoutingCapsule(3, **policy)(inputs))
        for name in ("em", "dynamic"):
            layer = layers.ConvCapsule(3, kernel_size=2, routing=name, **policy)
            arrays(layer(inputs))
        vectors = inputs[0][:, 0, :, 0, 0]
        arrays(layers.CapsuleMask(**policy)(vectors))
        lengths = layers.CapsuleLength(**policy)(vectors)
        exact([lengths], np.sqrt(np.sum(vectors**2, -1) + 1e-7))
    finally:
        keras.config.set_floatx(before)


def test_losses_of_samples_are_those_of_the_formulas():
    scores, labels = np.random.default_rng(0).random((4, 3)), np.array([0, 2, 1, 0])
    of_class, settings = np.eye(3)[labels], {"reduction": None, "dtype": "float64"}
    present, absent = np.maximum(0.9 - scores, 0), np.maximum(scores - 0.1, 0)
    expected = of_class * present**2 + 0.5 * (1 - of_class) * absent**2
    exact([losses.MarginLoss(**settings)(labels, scores)], expected.sum(-1))
    true = scores[np.arange(4), labels][:, None]
    missing = (1 - of_class) * np.maximum(0.9 - (true - scores), 0)
    exact([losses.SpreadLoss(**settings)(labels, scores)], (missing**2).sum(-1))


@pytest.mark.parametrize("network", [small_capsnet, small_matrix_capsnet])
def test_networks_keep_it(network):
    model = network(decoder_units=(8,), dtype="float64")
    images = np.random.default_rng(0).random((2, *model.image_shape))
    arrays([x.value for x in model.weights])
    arrays(model(images))
    arrays(model.reconstruct(images))
    if isinstance(model, models.MatrixCapsNet):
        return
    found = arrays(model.predict_on_batch(images))
    close = network(decoder_units=(8,))
    close.set_weights(model.get_weights())
    for x, y in zip(found, keras.tree.flatten(close(images)), strict=True):
        np.testing.assert_allclose(x, keras.ops.convert_to_numpy(y), atol=1e-5)
