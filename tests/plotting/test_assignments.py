import keras
import numpy as np
import pytest
from helpers import random_images, small_matrix_capsnet

from keras_capsules import models, plotting


def test_children_at_their_places_for_each_iteration_and_class():
    model = small_matrix_capsnet((19, 24, 1))
    image = 7.0 * random_images(1, (19, 24, 1))[0][0] - 3.0
    trace = model.trace(image[None])["class_capsules"]
    weights, activations = (
        keras.ops.convert_to_numpy(trace[name])[:, 0]
        for name in ("weights", "activations")
    )  # a grid of 1×2 places with 3 types of children
    axes = np.reshape(plotting.assignments(model, image).axes, (2, 4))
    original = axes[0, 0].images[0].get_array()
    assert original.min() == 0.0 and original.max() == 1.0
    for iteration in range(2):
        for label in range(3):
            axis = axes[iteration, 1 + label]
            for column in range(2):
                children = weights[iteration, label, 3 * column : 3 * column + 3]
                shown = axis.images[0].get_array()[0, column]
                np.testing.assert_allclose(shown, children.sum(), rtol=1e-5)
            assert axis.get_xlabel() == f"{activations[iteration, label]:.2f}"


def test_a_batch_of_one_and_names_of_the_classes():
    model = small_matrix_capsnet()
    images, _ = random_images(1, model.image_shape)
    axes = plotting.assignments(model, images, class_names=["a", "b", "c"]).axes
    assert [axis.get_title() for axis in axes[:4]] == ["", "a", "b", "c"]


def test_children_without_places():
    model = models.EfficientCapsNet((16, 16, 1), 3, filters=(4,), decoder_units=None)
    with pytest.raises(ValueError, match=r"grid of children.* shape \(16, 8\)"):
        plotting.assignments(model, np.zeros((16, 16, 1)))
