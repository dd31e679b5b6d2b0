import numpy as np
import pytest
from helpers import all_examples

from keras_capsules import datasets

pytestmark = pytest.mark.usefixtures("fake_data")


def test_training_digits_are_only_moved():
    images, labels = all_examples(datasets.aff_mnist().train)
    assert images.shape == (40, 40, 40, 1)
    for image, label in zip(images, labels, strict=True):
        assert image.sum() == pytest.approx(400 * 20 * (label + 1) / 255, rel=1e-5)
    tops = np.array([np.nonzero(image)[0].min() for image in images])
    assert tops.min() >= 4 and tops.max() <= 16 and len(np.unique(tops)) > 5


def test_test_digits_are_transformed_within_the_limits():
    images, labels = all_examples(datasets.aff_mnist().test)
    areas = images.sum((1, 2, 3)) / (20 * (labels + 1) / 255)
    assert areas.min() > 0.6 * 400 and areas.max() < 1.5 * 400
    assert areas.std() > 30  # scaled
    tops = [image[np.nonzero(image)[0].min()] for image in images]
    assert min((top > 0).sum() for top in tops) < 10  # rotated


def test_test_digits_that_are_only_moved():
    images, labels = all_examples(datasets.aff_mnist(affine=False).test)
    areas = images.sum((1, 2, 3)) / (20 * (labels + 1) / 255)
    assert areas == pytest.approx(400, rel=1e-5)
    tops = np.array([np.nonzero(image)[0].min() for image in images])
    assert tops.min() >= 4 and tops.max() <= 16 and len(np.unique(tops)) > 5
