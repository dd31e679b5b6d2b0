import keras
import numpy as np
import pytest
from helpers import close, random_images, small_capsnet

from keras_capsules import models
from keras_capsules.losses import MarginLoss
from keras_capsules.robustness import bim, cross_entropy, fgsm

KERNEL = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
IMAGES, LABELS = random_images(5, (3, 2, 1))
IMAGES = 0.3 + 0.4 * IMAGES


def linear(loss="sparse_categorical_crossentropy"):
    dense = keras.layers.Dense(3, "softmax", use_bias=False)
    model = keras.Sequential([keras.Input((3, 2, 1)), keras.layers.Flatten(), dense])
    dense.set_weights([KERNEL])
    if loss is not None:
        model.compile("sgd", loss)
    return model


def uphill():
    """Where the cross-entropy of the linear model grows, by its formula."""
    logits = IMAGES.reshape(5, 6) @ KERNEL
    softmax = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return np.sign((softmax - np.eye(3)[LABELS]) @ KERNEL.T).reshape(IMAGES.shape)


@pytest.mark.parametrize("attack", [fgsm, bim])
def test_each_pixel_of_a_linear_model_moves_by_epsilon_uphill(attack):
    changed = attack(linear(), IMAGES, LABELS, 0.01)
    close(changed, IMAGES + 0.01 * uphill())


def test_labels_may_be_one_hot_and_the_loss_given():
    loss = keras.losses.CategoricalCrossentropy()
    changed = fgsm(linear(None), IMAGES, np.eye(3)[LABELS], 0.01, loss=loss)
    close(changed, IMAGES + 0.01 * uphill())
    # Downhill, if the loss has the other sign.
    changed = fgsm(linear(), IMAGES, np.eye(3)[LABELS], 0.01, lambda y, p: -loss(y, p))
    close(changed, IMAGES - 0.01 * uphill())


@pytest.mark.parametrize("attack", [fgsm, bim])
def test_epsilon_zero_changes_nothing(attack):
    np.testing.assert_array_equal(attack(linear(), IMAGES, LABELS, 0.0), IMAGES)


def test_bim_stays_in_the_ball_and_within_clip():
    model = small_capsnet()
    images, labels = random_images(6)
    for clip in ((0.0, 1.0), None):
        changed = bim(model, images, labels, 0.1, steps=4, step_size=0.07, clip=clip)
        assert np.abs(changed - images).max() == pytest.approx(0.1, abs=1e-6)
        outside = (changed < 0.0) | (changed > 1.0)
        assert outside.any() == (clip is None)


def test_bim_makes_the_loss_grow_further_than_fgsm():
    model = small_capsnet()
    images, labels = random_images(16)
    model.fit(images, labels, epochs=5, verbose=0)

    def loss(images):
        scores = model.predict(images, verbose=0)["scores"]
        return float(MarginLoss()(labels, scores))

    once, often = (f(model, images, labels, 0.1) for f in (fgsm, bim))
    assert loss(often) > loss(once) > loss(images)


def test_an_image_without_loss_stays_as_it_is():
    always_right = np.array([[0.0, 0.0, 1.0]])
    model = linear(MarginLoss(absent_margin=1.0, present_margin=1e-6))
    changed = fgsm(model, IMAGES[:1], always_right, 0.1)
    np.testing.assert_array_equal(changed, IMAGES[:1])
    changed = fgsm(model, IMAGES[:1], always_right, 0.1, loss=cross_entropy)
    close(np.abs(changed - IMAGES[:1]), np.full((1, 3, 2, 1), 0.1), rtol=1e-3)


def test_a_gradient_that_is_no_number_moves_nothing():
    nan = fgsm(linear(), IMAGES, LABELS, 0.1, loss=lambda y, p: np.nan * p)
    np.testing.assert_array_equal(nan, IMAGES)


@pytest.mark.parametrize(
    ("message", "settings"),
    [
        ("`epsilon` must be a finite number", {"epsilon": -0.1}),
        ("`epsilon` must be a finite number", {"epsilon": float("nan")}),
        ("`epsilon` must be a finite number", {"epsilon": None}),
        ("`steps` must be an integer", {"steps": 0}),
        ("`step_size` must be a finite number", {"step_size": -1.0}),
        ("`images` must lie within `clip`", {"images": IMAGES - 1.0}),
        ("`clip` must be the smallest and the largest", {"clip": (1.0, 0.0)}),
        ("`labels` holds the label 3", {"labels": LABELS + 3 - LABELS}),
        ("`labels` must have shape", {"labels": np.zeros((5, 4))}),
        ("`labels` holds rows of no or of several", {"labels": np.ones((5, 3))}),
        ("`images` and `labels` must have the same", {"labels": LABELS[:4]}),
        ("`loss` must be a function or a name", {"model": linear(None)}),
        ("`loss` must be a function or a name", {"loss": ["mse", "mse"]}),
    ],
)
def test_bad_argument(message, settings):
    good = {"model": linear(), "images": IMAGES, "labels": LABELS, "epsilon": 0.1}
    with pytest.raises(ValueError, match=message):
        bim(**{**good, **settings})


def test_numbers_of_numpy_and_the_loss_by_the_name_of_the_output():
    expected = fgsm(linear(), IMAGES, LABELS, 0.1)
    changed = fgsm(linear(), IMAGES, LABELS, np.linspace(0.0, 0.1, 2)[1])
    assert changed.dtype == "float32"
    np.testing.assert_array_equal(changed, expected)
    model = models.BaselineCNN((8, 8, 1), 3, (2, 2), units=4)
    images = np.full((2, 8, 8, 1), 0.5)
    model.compile("sgd", "sparse_categorical_crossentropy")
    expected = fgsm(model, images, [0, 1], 0.1)
    model.compile("sgd", {"scores": "sparse_categorical_crossentropy"})
    np.testing.assert_array_equal(fgsm(model, images, [0, 1], 0.1), expected)
