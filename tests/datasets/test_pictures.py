import numpy as np
import pytest
from helpers import all_examples

from keras_capsules import datasets
from keras_capsules.datasets.pictures import pictures

NAMES = {
    "mnist": datasets.mnist,
    "fashion_mnist": datasets.fashion_mnist,
    "cifar10": datasets.cifar10,
    "svhn_cropped": datasets.svhn,
}


@pytest.mark.usefixtures("fake_data")
def test_images_from_0_to_1_and_integer_labels():
    for part in pictures("cifar10"):
        images, labels = all_examples(part)
        assert images.dtype == "float32" and labels.dtype == "int32"
        largest = images.max((1, 2, 3))
        np.testing.assert_allclose(largest, 20 * (labels + 1) / 255.0)


@pytest.mark.usefixtures("no_data")
@pytest.mark.parametrize("name", NAMES)
def test_missing_data_says_what_to_set_and_what_to_run(name):
    with pytest.raises(FileNotFoundError) as error:
        NAMES[name]()
    for hint in ("nowhere", "TFDS_DATA_DIR", "--data-dir", f"tfds build {name}"):
        assert hint in str(error.value)
