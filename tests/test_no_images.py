"""A batch of no images, as a detector that found nothing makes it."""

import keras
import numpy as np
import pytest
from helpers import small_capsnet, small_matrix_capsnet

from keras_capsules import layers, losses, metrics, routing


def none(*shape):
    return keras.ops.zeros((0, *shape))


def shapes(outputs):
    return [tuple(x.shape) for x in keras.tree.flatten(outputs)]


@pytest.mark.parametrize("name", routing.names())
def test_routings(name):
    arguments = none(6, 4, 4), keras.ops.ones((6, 3, 4, 4)), none(6)
    expected = [(0, 3, 4, 4), (0, 3)]
    known = routing.get(name).get_config()
    for settings in ({"loop": "while"}, {"block": 2}):
        if not settings.keys() <= known.keys():
            continue
        route = type(routing.get(name))(**settings)
        found = shapes(route(*arguments))
        assert found == expected[: 1 + route.computes_activations]
    assert shapes(route.trace(*arguments)["parents"])[0][1:] == expected[0]


@pytest.mark.parametrize("name", ["em", "self", "variational_bayes"])
def test_training_on_none_leaves_what_is_averaged(name):
    route = routing.get(name)
    arguments = none(6, 4, 4), keras.ops.ones((6, 3, 4, 4)), none(6)
    route(*arguments, training=True)
    found = route(keras.ops.ones((2, 6, 4, 4)), arguments[1], keras.ops.ones((2, 6)))
    for x in (*found, *route.weights):
        assert np.isfinite(keras.ops.convert_to_numpy(x)).all()


def test_layers():
    poses, activations = none(3, 3, 2, 4, 4), none(3, 3, 2)
    vectors, images = none(6, 8), none(9, 9, 1)
    assert shapes(layers.DigitCapsule(3)(vectors)) == [(0, 3, 16)]
    capsules = layers.EMRoutingCapsule(3)
    assert shapes(capsules((poses, activations))) == [(0, 3, 4, 4), (0, 3)]
    for padding, size in (("valid", 2), ("same", 3)):
        capsules = layers.ConvCapsule(3, kernel_size=2, padding=padding)
        expected = [(0, size, size, 3, 4, 4), (0, size, size, 3)]
        assert shapes(capsules((poses, activations))) == expected
    assert shapes(layers.PrimaryCapsule(2, 4, 3, 2)(images)) == [(0, 4, 4, 2, 4)]
    normalized = layers.PoseNormalization()((poses, activations))
    assert shapes(normalized) == shapes((poses, activations))
    assert shapes(layers.CapsuleLength()(vectors)) == [(0, 6)]
    assert shapes(layers.CapsuleMask()(vectors)) == [(0, 6, 8)]


def test_losses_and_metrics():
    scores, labels = none(3), np.zeros(0, "int32")
    for loss in (losses.MarginLoss, losses.SpreadLoss):
        assert shapes(loss(reduction=None)(labels, scores)) == [(0,)]
        total = keras.ops.sum(loss(reduction="sum")(labels, scores))
        assert float(total) == 0.0
    metric = metrics.ExactMatch()
    metric(np.array([1]), keras.ops.convert_to_tensor([[0.1, 0.9, 0.2]]))
    metric(labels, scores)
    assert float(metric.result()) == 1.0


@pytest.mark.parametrize("network", [small_capsnet, small_matrix_capsnet])
def test_networks(network):
    model = network(decoder_units=(8,))
    images, image = none(*model.image_shape), (0, *model.image_shape)
    found = model(images)
    assert tuple(found["scores"].shape) == (0, 3)
    labels = np.zeros(0, "int32")
    assert shapes(model.decode(found["poses"], labels)) == [image]
    assert shapes(model.reconstruct(images)) == [image]
    assert len(model.trace(images)) == len(model.capsule_layers)


@pytest.mark.parametrize("network", [small_capsnet, small_matrix_capsnet])
def test_predictions_of_networks(network):
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        convolution = tf.nn.conv2d(none(3, 3, 1), tf.zeros((3, 3, 1, 2)), 1, "VALID")
        if tuple(convolution.shape) != (0, 1, 1, 2):
            pytest.skip("in a graph TensorFlow refuses it on this processor")
    model = network()
    images = none(*model.image_shape)
    assert model.predict_on_batch(images)["scores"].shape == (0, 3)
