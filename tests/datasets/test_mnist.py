import numpy as np
import pytest
from helpers import all_examples

from keras_capsules import datasets


@pytest.mark.usefixtures("fake_data")
def test_images_from_0_to_1_and_integer_labels():
    for part in datasets.mnist():
        images, labels = all_examples(part)
        assert images.dtype == "float32" and labels.dtype == "int32"
        np.testing.assert_allclose(images.max((1, 2, 3)), 20 * (labels + 1) / 255.0)


@pytest.mark.usefixtures("no_data")
@pytest.mark.parametrize(
    "load", [datasets.mnist, datasets.multi_mnist, datasets.aff_mnist]
)
def test_missing_data_says_what_to_set_and_what_to_run(load):
    with pytest.raises(FileNotFoundError) as error:
        load()
    for hint in ("nowhere", "TFDS_DATA_DIR", "--data-dir", "tfds build mnist"):
        assert hint in str(error.value)
