import keras
import numpy as np
import pytest
from helpers import random_images, small_capsnet

from keras_capsules import models, plotting


def test_the_two_longest_capsules_each_alone_and_in_a_colour():
    model = small_capsnet(objects=2)
    images, _ = random_images(2)
    outputs = model.predict(images, verbose=0)
    found = np.sort(outputs["scores"].argsort(-1)[:, -2:])
    labels = np.stack(
        [np.eye(3)[found[0]].sum(0), np.eye(3)[(found[1] + 1) % 3].sum(0)]
    )
    axes = plotting.objects_apart(model, images, labels).axes
    assert len(axes) == 8

    together, first, second = (axes[k].images[0].get_array() for k in (2, 4, 6))
    for shown, label in ((first, found[:, 0]), (second, found[:, 1])):
        drawn = keras.ops.convert_to_numpy(model.decode(outputs["poses"], label))
        np.testing.assert_allclose(shown.max(-1), drawn[0, ..., 0], rtol=1e-4)
    assert first[..., 0].mean() > first[..., 2].mean()  # red
    assert second[..., 2].mean() > second[..., 0].mean()  # blue
    np.testing.assert_allclose(together, np.maximum(first, second))
    assert [axes[2].title.get_color(), axes[3].title.get_color()] == ["black", "red"]


def test_the_image_of_each_object_in_its_colour():
    model = small_capsnet(objects=2)
    images, _ = random_images(2)
    alone = np.stack([images, np.zeros_like(images)], axis=1)
    labels = {"scores": np.array([[1, 1, 0], [0, 1, 1]]), "images": alone}
    shown = plotting.objects_apart(model, images, labels).axes[0].images[0].get_array()
    np.testing.assert_allclose(shown[..., 0], images[0, ..., 0], rtol=1e-6)
    assert (shown[..., 2] < shown[..., 0]).all()


def test_images_of_objects_are_scaled_like_the_image():
    shape = (8, 8, 1)
    model = models.CapsuleClassifier(
        shape,
        3,
        keras.layers.Conv2D(4, 3),
        preprocess=keras.layers.Rescaling(1 / 255),
        objects=2,
        decoder_units=(8,),
    )
    alone = np.random.default_rng(0).integers(0, 128, (1, 2, *shape))
    labels = {"scores": np.array([[1, 1, 0]]), "images": alone}
    shown = plotting.objects_apart(model, alone.max(1), labels).axes[0].images[0]
    red = shown.get_array()[..., 0]
    np.testing.assert_allclose(red.max(), alone[0, 0].max() / 255, rtol=1e-5)


def test_wrong_images_of_objects():
    model = small_capsnet(objects=2)
    images, _ = random_images(2)
    for shape in ((1, 2, 16, 14, 1), (2, 3, 16, 14, 1), (2, 2, 14, 14, 1)):
        labels = {"scores": [[1, 1, 0], [0, 1, 1]], "images": np.zeros(shape)}
        with pytest.raises(ValueError, match=r"`images` of shape \(2, 2, 16, 14, 1\)"):
            plotting.objects_apart(model, images, labels)


def test_one_class_has_no_two_objects():
    images, _ = random_images(1)
    with pytest.raises(ValueError, match=r"two classes or more\. Received: 1 class"):
        plotting.objects_apart(small_capsnet(classes=1), images, [[1]])
