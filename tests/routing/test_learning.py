"""Every routing in a small network that learns real digits."""

import keras
import numpy as np
import pytest
from helpers import all_examples, once

from keras_capsules import datasets, layers, losses, routing

# The length of their poses says how present a parent is. With a routing that is in
# neither group it is learned, as with inverted attention.
BY_LENGTH = ("dynamic", "self_attention", "uniform")
BY_ACTIVATION = [
    name for name in routing.names() if routing.get(name).computes_activations
]


@pytest.fixture(scope="module")
def digits():
    """Images and labels to train, images and labels to test; every second pixel."""
    train, *held_out = (all_examples(part) for part in datasets.digits())
    test = map(np.concatenate, zip(*held_out, strict=True))
    (images, labels), (test_images, test_labels) = train, test
    whole = len(images) // 32 * 32  # a smaller last batch would be compiled on its own
    return (
        (images[:whole, ::2, ::2], labels[:whole]),
        (test_images[:, ::2, ::2], test_labels),
    )


def accuracy(network, digits, epochs):
    (images, labels), test = digits
    steps = epochs * len(images) // 32
    rate = keras.optimizers.schedules.CosineDecay(0.01, steps)
    network.compile(
        keras.optimizers.Adam(rate),
        network.loss,
        # TensorFlow's own compiler takes longer than the training.
        jit_compile=keras.backend.backend() == "jax",
    )
    # A step that finds its variables made is compiled once, see `build_training`.
    network.optimizer.build(network.trainable_variables)
    network.fit(images, labels, 32, epochs, verbose=0)
    test_images, test_labels = test
    scores = network.predict(test_images, 180, verbose=0)
    return np.mean(scores.argmax(-1) == test_labels)


def network_of_class_capsules(name):
    route = routing.get(name)
    images = keras.Input((14, 14, 1))
    x = keras.layers.Conv2D(16, 3, strides=2, activation="relu")(images)
    # With self-routing a child decides alone: it has to see the whole digit.
    x = layers.PrimaryCapsule(4, 8, kernel_size=6 if name == "self" else 3)(x)
    if route.needs_activations:
        x = layers.PoseNormalization()(x), layers.CapsuleLength()(x)
    x = layers.DigitCapsule(10, 8, routing=route)(x)
    loss = losses.MarginLoss()
    if route.computes_activations:
        scores, loss = x[1], losses.SpreadLoss(0.5)
    elif name in BY_LENGTH:
        scores = layers.CapsuleLength()(x)
    else:
        scores = keras.layers.Reshape((10,))(keras.layers.Dense(1)(x))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network = keras.Model(images, scores)
    network.compile(loss=loss)
    return network


@pytest.mark.parametrize("name", routing.names())
def test_class_capsules_learn_digits(name, digits):
    assert accuracy(network_of_class_capsules(name), digits, epochs=8) >= 0.95


def network_of_matrix_capsules(name):
    images = keras.Input((14, 14, 1))
    x = keras.layers.Conv2D(16, 3, strides=2, activation="relu")(images)
    x = layers.PrimaryCapsule(4, (4, 4), kernel_size=3)(x)
    x = layers.PoseNormalization()(x)
    x = layers.ConvCapsule(8, kernel_size=3, routing=name)(x)
    x = layers.PoseNormalization()(x)
    _, activations = layers.EMRoutingCapsule(10, routing=name)(x)
    network = keras.Model(images, activations)
    network.compile(loss=losses.SpreadLoss(0.5))
    return network


@once
@pytest.mark.parametrize("name", BY_ACTIVATION)
def test_two_layers_of_matrix_capsules_learn_digits(name, digits):
    assert accuracy(network_of_matrix_capsules(name), digits, epochs=6) >= 0.95
