import keras
import numpy as np
import pytest
from helpers import random_images, small_capsnet, small_matrix_capsnet

from keras_capsules import models, plotting
from keras_capsules.plotting.credit_maps import _credit


@pytest.mark.parametrize("routing", ["dynamic", "uniform"])
def test_the_credit_of_all_places_is_the_length_of_the_sum_of_votes(routing):
    model = small_capsnet(routing=routing)
    images, labels = random_images(3)
    credit = _credit(model, images, labels)
    assert credit.shape == (3, 4, 3)
    layer = model.class_capsules
    trace = layer.trace(model.lowest_capsules(model.as_images(images)))
    poses = keras.ops.convert_to_numpy(trace["parents"])[-1, range(3), labels]
    lengths = np.linalg.norm(poses, axis=(-2, -1))
    # What is squashed has the length r, r² / (1 + r²) then.
    np.testing.assert_allclose(
        credit.sum((1, 2)), np.sqrt(lengths / (1.0 - lengths)), rtol=1e-3
    )


def test_each_image_stands_above_its_map():
    model = small_capsnet()
    images, _ = random_images(2)
    axes = plotting.credit_maps(model, images, ["a", "b", "c"]).axes
    assert len(axes) == 4
    scores = model.predict_on_batch(images)["scores"]
    for axis, row in zip(axes[:2], scores, strict=True):
        assert axis.get_title() == f"{'abc'[row.argmax()]} {row.max():.2f}"
    assert [len(axis.images) for axis in axes] == [1, 1, 2, 2]


def test_bytes_of_a_classifier_that_scales_them():
    shape = (12, 12, 3)
    model = models.CapsuleClassifier(
        shape,
        2,
        backbone=models.residual_backbone(shape, 2, 1),
        preprocess=keras.layers.Rescaling(1 / 255),
        primary_capsules=2,
    )
    images = np.random.default_rng(0).integers(0, 256, (1, *shape), "uint8")
    above, below = plotting.credit_maps(model, images, ["cat", "dog"], [1]).axes
    assert above.images[0].get_array().max() == 1.0
    predicted = above.get_title().split()[0]
    assert below.get_title() == "shows dog"
    assert below.title.get_color() == ("black" if predicted == "dog" else "red")


def test_networks_without_a_grid_of_vectors():
    model = small_matrix_capsnet()
    with pytest.raises(ValueError, match="are a grid of vector"):
        plotting.credit_maps(model, np.zeros((1, *model.image_shape), "float32"))
    with pytest.raises(ValueError, match="must have `trace`"):
        plotting.credit_maps(models.BaselineCNN((16, 14, 1), 3), random_images(1)[0])
