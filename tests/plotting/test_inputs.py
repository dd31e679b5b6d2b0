import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import random_images, small_capsnet, small_matrix_capsnet

from keras_capsules import models, plotting
from keras_capsules.plotting.inputs import (
    batch_of,
    names_of,
    one_image,
    present_classes,
)

SHAPE = (16, 14, 1)
IMAGES, LABELS = random_images(2)


def of_a_tf_data_set(array):
    return next(iter(tf.data.Dataset.from_tensors(array)))


def learned(array):
    """A tensor of the backend, on PyTorch one with a gradient."""
    return keras.Variable(array).value


@pytest.mark.parametrize(
    "form",
    [np.asarray, list, keras.ops.convert_to_tensor, of_a_tf_data_set, learned],
)
def test_images_of_any_kind(form):
    images = batch_of(form(IMAGES), SHAPE)
    assert images.dtype == "float32"
    np.testing.assert_array_equal(images, IMAGES)
    for image in (IMAGES[0], IMAGES[:1]):
        np.testing.assert_array_equal(one_image(form(image), SHAPE), IMAGES[0])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_images_in_half_precision(dtype):
    images = keras.ops.cast(keras.ops.convert_to_tensor(IMAGES), dtype)
    np.testing.assert_allclose(batch_of(images, SHAPE), IMAGES, atol=0.01)


@pytest.mark.parametrize(
    "images", [IMAGES[0], IMAGES[:0], IMAGES[:, :, :, 0], IMAGES.swapaxes(1, 2)]
)
def test_images_of_another_shape_are_refused(images):
    expected = r"`images` must have shape \(n, 16, 14, 1\).*Received: shape"
    with pytest.raises(ValueError, match=expected):
        batch_of(images, SHAPE)


@pytest.mark.parametrize("image", [IMAGES, IMAGES[0, :, :, 0], IMAGES[:0]])
def test_an_image_of_another_shape_is_refused(image):
    with pytest.raises(ValueError, match=r"`image` must have shape .*Received: shape"):
        one_image(image, SHAPE)


def test_integer_images_are_refused():
    pixels = (255.0 * IMAGES).astype("uint8")
    with pytest.raises(ValueError, match=r"`images` must hold floats.*: uint8"):
        batch_of(pixels, SHAPE)
    with pytest.raises(ValueError, match=r"`image` must hold floats.*: uint8"):
        one_image(pixels[0], SHAPE)


@pytest.mark.parametrize(
    "labels",
    [[2, 0], np.array([[2], [0]]), [[0, 0, 1], [1, 0, 0]], np.eye(3)[[2, 0]]],
)
@pytest.mark.parametrize("form", [list, keras.ops.convert_to_tensor, of_a_tf_data_set])
def test_labels_of_any_kind(labels, form):
    for several in (False, True):
        present = present_classes(form(labels), 3, 2, several)
        np.testing.assert_array_equal(present, np.eye(3)[[2, 0]] == 1)


def test_labels_that_are_soft_or_stand_for_several_classes():
    soft = np.array([[0.25, 0.5, 0.25]])
    assert present_classes(soft, 3, 1, several=False).tolist() == [[False, True, False]]
    both = present_classes([[1, 0, 1]], 3, 1)
    assert both.tolist() == [[True, False, True]]


def test_not_one_label_for_each_image():
    with pytest.raises(ValueError, match=r"`labels`.*3 labels for 2 images"):
        present_classes([0, 1, 2], 3, 2)
    with pytest.raises(ValueError, match="`labels`"):
        present_classes(7, 3, 1)


def test_an_image_without_a_class():
    nothing = [[0, 1, 0], [0, 0, 0]]
    assert present_classes(nothing, 3, 2).sum() == 1
    with pytest.raises(ValueError, match=r"no class for image 1"):
        present_classes(nothing, 3, 2, several=False)


def test_names_of_classes():
    assert names_of(None, 2) == ["0", "1"]
    assert names_of(("cat", "dog"), 2) == ["cat", "dog"]
    assert names_of(("$5_$9", "dog"), 2) == [r"\$5_\$9", "dog"]
    for names in (("cat",), "no", (1, 2), {"cat", "dog"}, 2):
        with pytest.raises(ValueError, match="`class_names` must hold a name for each"):
            names_of(names, 2)


def test_every_figure_checks_what_it_is_given():
    capsnet, matrix = small_capsnet(), small_matrix_capsnet()
    images = random_images(2, matrix.image_shape)[0]
    for draw in (plotting.reconstructions, plotting.objects_apart):
        with pytest.raises(ValueError, match="`images` must have shape"):
            draw(capsnet, IMAGES[0], LABELS)
        with pytest.raises(ValueError, match="3 labels for 2 images"):
            draw(capsnet, IMAGES, [0, 1, 2])
        with pytest.raises(ValueError, match="`class_names`"):
            draw(capsnet, IMAGES, LABELS, class_names=["a"])
    with pytest.raises(ValueError, match="`image` must have shape"):
        plotting.pose_tweaks(capsnet, IMAGES)
    with pytest.raises(ValueError, match="`steps`"):
        plotting.pose_tweaks(capsnet, IMAGES[0], steps=0)
    with pytest.raises(ValueError, match="`image` must have shape"):
        plotting.assignments(matrix, images)
    with pytest.raises(ValueError, match="`images` must have shape"):
        plotting.vote_distances(matrix, images[0], LABELS)
    cnn = models.BaselineCNN((8, 8, 1), classes=3, filters=(2, 3), units=4)
    for draw in (plotting.pose_tweaks, plotting.assignments):
        with pytest.raises(ValueError, match="`model` must have"):
            draw(cnn, np.zeros((8, 8, 1)))
