import pytest
from helpers import all_examples

from keras_capsules import datasets


@pytest.mark.usefixtures("fake_data")
def test_shapes():
    for part in datasets.fashion_mnist():
        images, _ = all_examples(part)
        assert images.shape == (40, 28, 28, 1)
