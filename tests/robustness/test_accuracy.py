import functools

import keras
import numpy as np
import pytest
from helpers import random_images, small_capsnet

from keras_capsules import models
from keras_capsules.robustness import accuracy_under_attack, bim, fgsm

IMAGE_SHAPE = (16, 14, 1)


@pytest.fixture(scope="module")
def trained():
    """Two networks, and images that they tell apart."""
    keras.utils.set_random_seed(0)
    images, labels = random_images(24)
    images *= 0.3
    for image, label in zip(images, labels, strict=True):
        image[5 * label : 5 * label + 5] += 0.3
    cnn = models.BaselineCNN(IMAGE_SHAPE, 3, (4, 4), 3, 16, dropout=0.0)
    layers = [keras.layers.Flatten(), keras.layers.Dense(3, "softmax")]
    networks = {"cnn": cnn, "linear": keras.Sequential(layers)}
    for network in networks.values():
        network.compile(
            keras.optimizers.Adam(0.01), loss="sparse_categorical_crossentropy"
        )
        network.fit(images, labels, batch_size=8, epochs=12, verbose=0)
    return networks, [(images[:16], labels[:16]), (images[16:], labels[16:])]


@pytest.mark.parametrize("attack", [fgsm, functools.partial(bim, steps=3)])
def test_accuracy_falls_with_epsilon(trained, attack):
    networks, data = trained
    rows = accuracy_under_attack(networks, data, attack, [0.0, 0.3])
    expected = [(name, epsilon) for name in networks for epsilon in (0.0, 0.3)]
    assert [(row["model"], row["epsilon"]) for row in rows] == expected
    for clean, attacked in (rows[:2], rows[2:]):
        assert clean["accuracy"] > 0.9 > 0.5 > attacked["accuracy"]


def test_epsilon_zero_is_the_accuracy_without_attack(trained):
    networks, data = trained
    images, labels = (np.concatenate(part) for part in zip(*data, strict=True))
    wrong = np.where(np.arange(24) % 4, labels, (labels + 1) % 3)
    scores = networks["cnn"].predict(images, verbose=0)["scores"]
    expected = np.mean(scores.argmax(-1) == wrong)
    # One-hot labels and an unequal last batch count the same.
    batches = [(images[k : k + 7], np.eye(3)[wrong[k : k + 7]]) for k in (0, 7, 14, 21)]
    attack = functools.partial(fgsm, loss="categorical_crossentropy")
    (row,) = accuracy_under_attack({"cnn": networks["cnn"]}, batches, attack, [0.0])
    assert row["accuracy"] == pytest.approx(expected)


def test_progress_is_shown_on_demand(trained, capsys):
    networks, data = trained
    accuracy_under_attack(networks, data, fgsm, [0.0])
    assert capsys.readouterr().out == ""
    accuracy_under_attack(networks, data, fgsm, [0.0], verbose=1)
    assert "4/4" in capsys.readouterr().out


def test_a_single_class_is_present_or_absent():
    images, _ = random_images(4)
    network = small_capsnet(classes=1)
    present = network.predict(images, verbose=0)["scores"] > 0.5
    for labels, accuracy in ((present, 1.0), (present[:, 0], 1.0), (~present, 0.0)):
        rows = accuracy_under_attack({"": network}, [(images, 1 * labels)], fgsm, [0.0])
        assert rows[0]["accuracy"] == accuracy


def test_no_data(trained):
    networks, _ = trained
    with pytest.raises(ValueError, match="`data` must hold at least one batch"):
        accuracy_under_attack(networks, [], fgsm, [0.0])
