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


def test_test_digits_lie_anywhere_and_are_whole():
    dataset = datasets.aff_mnist().test
    images, _ = all_examples(dataset)
    used = [np.nonzero(image[..., 0]) for image in images]
    ends = np.array([[[x.min(), x.max()] for x in axes] for axes in used])
    # (image, axis, first or last)
    assert ends.min() < 3 and ends.max() > 36  # beyond the range of the training digits
    room = 39 - (ends[..., 1] - ends[..., 0])
    share = ends[..., 0] / np.maximum(room, 1)
    assert 0.35 < share.mean() < 0.65 and share.std() > 0.2
    # What was rolled over the border would leave a gap.
    for image in images:
        for axis in (0, 1):
            lines = np.nonzero(image.any((axis, 2)))[0]
            assert (np.diff(lines) == 1).all()


def test_test_digits_that_are_only_moved():
    images, labels = all_examples(datasets.aff_mnist(affine=False).test)
    areas = images.sum((1, 2, 3)) / (20 * (labels + 1) / 255)
    assert areas == pytest.approx(400, rel=1e-5)
    tops = np.array([np.nonzero(image)[0].min() for image in images])
    assert tops.min() >= 4 and tops.max() <= 16 and len(np.unique(tops)) > 5
