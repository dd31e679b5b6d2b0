import keras
import numpy as np
import pytest
from helpers import close, random_images, slope, small_capsnet

from keras_capsules.losses import MarginLoss, SpreadLoss
from keras_capsules.robustness.gradient import input_gradient, scores


def test_scores_alone_or_in_a_dict():
    assert scores({"scores": 1, "poses": 2}) == scores(1) == 1


def linear(kernel):
    dense = keras.layers.Dense(kernel.shape[1], use_bias=False)
    model = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten(), dense])
    dense.set_weights([kernel])
    return model


def test_gradient_of_a_linear_model():
    kernel = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    images, labels = random_images(5, (2, 2, 1))
    gradient = input_gradient(
        linear(kernel), images, labels, lambda _, scores: keras.ops.square(scores)
    )
    expected = 2.0 * (images.reshape(5, 4) @ kernel) @ kernel.T
    close(gradient, expected.reshape(images.shape))


def test_gradient_sees_a_margin_that_changed():
    kernel = np.eye(4, 3, dtype="float32")
    images, labels = np.zeros((1, 2, 2, 1), "float32"), np.array([0])
    model, loss = linear(kernel), SpreadLoss(0.2)
    for margin in (0.2, 0.7):
        loss.margin = margin
        gradient = input_gradient(model, images, labels, loss)
        close(gradient.ravel(), 2.0 * margin * np.array([-2, 1, 1, 0]))


def test_gradient_through_the_routing_matches_finite_differences():
    model = small_capsnet()
    images, labels = random_images(4)
    gradient = input_gradient(model, images, labels, MarginLoss())
    direction = np.sign(gradient)

    def loss(x):
        found = model.predict(x.astype("float32"), verbose=0)["scores"]
        return float(MarginLoss()(labels, found))

    expected = slope(loss, [images], [direction], step=1e-3)
    assert np.sum(gradient * direction) == pytest.approx(expected, rel=0.02)
