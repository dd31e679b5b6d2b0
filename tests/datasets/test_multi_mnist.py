import numpy as np
import pytest
from helpers import all_examples

from keras_capsules import datasets

pytestmark = pytest.mark.usefixtures("fake_data")


def test_two_different_digits_and_their_maximum():
    images, labels = all_examples(datasets.multi_mnist().train)
    assert images.shape == (40, 36, 36, 1) and labels.shape == (40, 10)
    assert set(np.unique(labels)) == {0.0, 1.0} and (labels.sum(1) == 2).all()
    for image, label in zip(images, labels, strict=True):
        dim, bright = 20 * (np.flatnonzero(label) + 1) / 255.0
        assert np.isclose(image[..., None], [0.0, dim, bright]).any(-1).all()
        # The brighter square lies on top, 20×20, at most 4 pixels from the centre.
        rows, columns = np.nonzero(np.isclose(image[..., 0], bright))
        assert len(rows) == 400
        assert 4 <= rows.min() <= 12 and 4 <= columns.min() <= 12
        assert np.isclose(image, dim).sum() <= 400


def test_every_digit_is_the_first_of_one_pair():
    _, labels = all_examples(datasets.multi_mnist().test)
    assert (labels[np.arange(40), np.arange(40) % 10] == 1).all()


def test_the_image_of_each_digit_alone():
    def all_of(**settings):
        test = datasets.multi_mnist(**settings).test
        return next(test.batch(40).as_numpy_iterator())

    images, labels = all_of(own_images=True)
    plain, scores = all_of()
    np.testing.assert_array_equal(images, plain)
    np.testing.assert_array_equal(labels["scores"], scores)
    own = labels["images"]
    assert own.shape == (40, 2, 36, 36, 1)
    np.testing.assert_array_equal(own.max(1), images)
    # The squares of the fake digits are as bright as their classes say.
    classes = np.array([np.flatnonzero(row) for row in scores])
    np.testing.assert_allclose(own.max((2, 3, 4)), 20 * (classes + 1) / 255.0)


def test_other_shifts():
    images, _ = all_examples(datasets.multi_mnist(max_shift=6).test)
    assert images.shape == (40, 40, 40, 1)
    with pytest.raises(ValueError, match="Received: max_shift=-1"):
        datasets.multi_mnist(max_shift=-1)
    with pytest.raises(ValueError, match="Received: own_images='yes'"):
        datasets.multi_mnist(own_images="yes")
