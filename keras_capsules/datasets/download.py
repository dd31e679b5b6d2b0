import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import tensorflow as tf
import tensorflow_datasets as tfds
from google.protobuf.json_format import ParseError
from tensorflow_datasets.core.download import downloader

_RETRIES = 4
_TIMEOUT = (5, 60)  # seconds to connect, and between two pieces of a file


def download(
    name: str, data_dir: str | os.PathLike | None = None
) -> tfds.core.DatasetBuilder:
    """Returns a data set of TensorFlow Datasets, downloaded if it is missing.

    Args:
        name: name of the data set in the catalogue of TensorFlow Datasets.
        data_dir: folder of the prepared data sets. By default it is the folder in the
            environment variable `TFDS_DATA_DIR`, or `~/tensorflow_datasets`.

    Returns:
        The builder of the prepared data set.

    Raises:
        FileNotFoundError: the data set is missing and can't be downloaded.
        ValueError: the description of the prepared data set is damaged.
    """
    with describing(name, data_dir):
        builder = tfds.builder(name, data_dir=data_dir)
    try:
        with few_retries():
            builder.download_and_prepare()
    except Exception as error:
        raise FileNotFoundError(
            f"{name} is not in {builder.data_dir} and could not be downloaded "
            f"({type(error).__name__}: {error}). Set TFDS_DATA_DIR, or pass data_dir "
            f"(--data-dir in the examples), to a folder that holds {name}. To create "
            f"one on a machine with a network, run: tfds build {name} --data_dir FOLDER"
        ) from error
    return builder


@contextmanager
def few_retries() -> Iterator[None]:
    """Limits the retries and waiting times of TFDS within a `with` block.

    Without a network, TFDS then fails within seconds. By default it waits for a server
    without a limit, and tries ten times with increasing pauses, for more than three
    minutes in total.

    Example:

    >>> with few_retries():
    ...     downloader.MAX_RETRIES
    4
    """
    retries, open_url = downloader.MAX_RETRIES, downloader._open_url
    downloader.MAX_RETRIES = _RETRIES
    downloader._open_url = partial(open_url, timeout=_TIMEOUT)
    try:
        yield
    finally:
        downloader.MAX_RETRIES, downloader._open_url = retries, open_url


@contextmanager
def describing(name: str, data_dir: str | os.PathLike | None) -> Iterator[None]:
    """Converts errors in reading a damaged description to one that names its folder.

    Args:
        name: name of the data set whose builder is made in the `with` block.
        data_dir: as for `download`.

    Raises:
        ValueError: the description of the prepared data set is damaged.
    """
    try:
        yield
    except (ParseError, ValueError) as error:
        folder = os.path.join(data_dir or tfds.core.constants.DATA_DIR, name)
        raise ValueError(
            f"{name} in {folder} is damaged ({error}). Remove it to prepare it again."
        ) from error


@contextmanager
def reading(builder: tfds.core.DatasetBuilder) -> Iterator[None]:
    """Converts errors in reading a damaged data set to one that names its folder.

    Args:
        builder: the data set that is read in the `with` block.

    Raises:
        ValueError: files are missing, incomplete or changed.
    """
    try:
        yield
    except (tf.errors.OpError, AssertionError, KeyError, TypeError) as error:
        raise ValueError(
            f"{builder.name} in {builder.data_dir} is damaged or only half prepared "
            f"({type(error).__name__}). Remove the folder to prepare it again."
        ) from error
