import pytest
import tensorflow_datasets as tfds
from helpers import all_examples

from keras_capsules import datasets


def test_pipeline_over_the_builder_of_tfds():
    with tfds.testing.mock_data(num_examples=20):
        parts = datasets.smallnorb(stereo=True, crops=2)
    assert [len(part) for part in parts] == [18, 2, 20]
    for part, shape in zip(
        parts, [(32, 32, 2), (32, 32, 2), (4, 32, 32, 2)], strict=True
    ):
        images, labels = all_examples(part)
        assert images.shape[1:] == shape and images.dtype == "float32"
        assert labels.dtype == "int32" and set(labels) <= set(range(5))


@pytest.mark.usefixtures("no_data")
def test_missing_data_says_what_to_set_and_what_to_run():
    with pytest.raises(FileNotFoundError, match="tfds build smallnorb"):
        datasets.smallnorb()


def test_crops_are_checked_before_the_download():
    with pytest.raises(ValueError, match="Received: crops=0"):
        datasets.smallnorb(crops=0)
