import numpy as np
from helpers import all_examples

from keras_capsules import datasets


def test_sizes_ranges_and_classes():
    splits = datasets.digits()
    assert [len(part) for part in splits] == [1257, 180, 360]
    for part in splits:
        images, labels = all_examples(part)
        assert images.shape[1:] == (28, 28, 1) and images.dtype == "float32"
        assert images.min() >= 0.0 and images.max() == 1.0
        assert np.bincount(labels, minlength=10).min() >= 0.09 * len(labels)


def test_no_image_is_in_two_splits():
    images = [all_examples(part)[0].reshape(-1, 784) for part in datasets.digits()]
    assert len(np.unique(np.concatenate(images), axis=0)) == 1797


def test_always_the_same():
    first, second = (all_examples(datasets.digits().test) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
