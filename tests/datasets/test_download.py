import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import downloader
from urllib3.util.retry import Retry

from keras_capsules.datasets.download import download, few_retries
from keras_capsules.datasets.mnist import mnist
from keras_capsules.datasets.pairs import load


@pytest.mark.usefixtures("fake_data")
def test_builder_of_the_name():
    assert download("mnist", "somewhere").data_dir == "nowhere/mnist/3.0.1"


@pytest.mark.usefixtures("no_data")
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


@pytest.mark.parametrize(
    "error",
    [
        tf.errors.DataLossError(None, None, "truncated record at 16"),
        tf.errors.NotFoundError(None, None, "no such file"),
        KeyError("splits is empty"),
        AssertionError("could not find data"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.usefixtures("fake_data")
def test_damaged_files_say_which_folder(monkeypatch, error):
    def as_dataset(*args, **kwargs):
        raise error

    builder = download("mnist")
    monkeypatch.setattr(type(builder), "as_dataset", as_dataset)
    for name, read in (
        ("mnist", mnist),
        ("smallnorb", lambda: load(download("smallnorb"), "train", stereo=False)),
    ):
        with pytest.raises(ValueError, match=f"in nowhere/{name}/3.0.1 is damaged"):
            read()


def test_a_damaged_description_says_which_folder(tmp_path):
    folder = tmp_path / "mnist" / "3.0.1"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text('{"name": "mn')
    (folder / "features.json").write_text("{}")
    with pytest.raises(ValueError, match=f"mnist in {tmp_path}/mnist is damaged"):
        download("mnist", tmp_path)
    assert (folder / "dataset_info.json").read_text() == '{"name": "mn'
