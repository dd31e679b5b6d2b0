import pytest

from keras_capsules.datasets.download import download


@pytest.mark.usefixtures("fake_mnist")
def test_builder_of_the_name():
    assert download("mnist", "somewhere").data_dir == "nowhere/mnist/3.0.1"


@pytest.mark.usefixtures("no_mnist")
def test_missing_data_says_what_to_set_and_what_to_run():
    with pytest.raises(FileNotFoundError) as error:
        download("smallnorb")
    for hint in ("nowhere", "no network", "TFDS_DATA_DIR", "tfds build smallnorb"):
        assert hint in str(error.value)
