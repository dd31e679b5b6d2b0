import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import downloader
from urllib3.util.retry import Retry

from keras_capsules.datasets.download import download, few_retries


@pytest.mark.usefixtures("fake_mnist")
def test_builder_of_the_name():
    assert download("mnist", "somewhere").data_dir == "nowhere/mnist/3.0.1"


@pytest.mark.usefixtures("no_mnist")
def test_missing_data_says_what_to_set_and_what_to_run():
    with pytest.raises(FileNotFoundError) as error:
        download("smallnorb")
    for hint in ("nowhere", "no network", "TFDS_DATA_DIR", "tfds build smallnorb"):
        assert hint in str(error.value)


def test_without_a_network_tfds_gives_up_within_seconds(monkeypatch):
    pauses, asked = [], []

    def pause(self, response=None):
        pauses.append(self.get_backoff_time())

    def get(self, url, timeout=None, get=downloader.requests.Session.get, **kwargs):
        asked.append(timeout)
        return get(self, url, timeout=timeout, **kwargs)

    monkeypatch.setattr(Retry, "sleep", pause)
    monkeypatch.setattr(downloader.requests.Session, "get", get)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    before = downloader.MAX_RETRIES, downloader._open_url
    with (
        few_retries(),
        pytest.raises(OSError, match="Max retries"),
        downloader._open_url("http://127.0.0.1:1/images.gz"),  # nobody listens there
    ):
        pass
    assert asked == [(5, 60)] and len(pauses) == 4 and sum(pauses) < 5.0
    assert (downloader.MAX_RETRIES, downloader._open_url) == before


def test_retries_are_few_while_tfds_downloads(monkeypatch):
    class Builder:
        data_dir = "nowhere"

        def download_and_prepare(self):
            retries.append(downloader.MAX_RETRIES)

    retries = []
    monkeypatch.setattr(tfds, "builder", lambda name, data_dir: Builder())
    download("mnist")
    assert retries == [4] and downloader.MAX_RETRIES > 4
