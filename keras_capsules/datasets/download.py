import os

import tensorflow_datasets as tfds


def download(
    name: str, data_dir: str | os.PathLike | None = None
) -> tfds.core.DatasetBuilder:
    """A data set of TensorFlow Datasets, downloaded if it is missing.

    Args:
        name: name of the data set in the catalogue.
        data_dir: folder of the prepared data sets. By default that of the
            environment variable `TFDS_DATA_DIR`, else `~/tensorflow_datasets`.

    Returns:
        The builder, ready to be read from.

    Raises:
        FileNotFoundError: the data set is missing and can't be downloaded.
    """
    builder = tfds.builder(name, data_dir=data_dir)
    try:
        builder.download_and_prepare()
    except Exception as error:
        raise FileNotFoundError(
            f"{name} is not in {builder.data_dir} and could not be downloaded "
            f"({type(error).__name__}: {error}). Set TFDS_DATA_DIR, or pass data_dir "
            f"(--data-dir in the examples), to a folder that holds {name}; or make one "
            f"on a machine with a network: tfds build {name} --data_dir FOLDER"
        ) from error
    return builder
