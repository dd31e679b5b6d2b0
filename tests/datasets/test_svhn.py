import pytest
from helpers import all_examples

from keras_capsules import datasets


@pytest.mark.usefixtures("fake_data")
def test_shapes():
    for part in datasets.svhn():
        images, _ = all_examples(part)
        assert images.shape == (40, 32, 32, 3)
