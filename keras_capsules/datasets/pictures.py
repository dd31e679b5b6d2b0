"""Reading of labelled images from TensorFlow Datasets."""

import os

import tensorflow as tf

from keras_capsules.datasets.download import download, reading
from keras_capsules.datasets.splits import Splits

_HELD_OUT = 5_000


def pictures(name: str, data_dir: str | os.PathLike | None = None) -> Splits:
    """Returns the splits of a data set whose examples are an image and a label.

    The last 5,000 training images are for validation.

    Args:
        name: name of the data set in TensorFlow Datasets.
        data_dir: as for `datasets.mnist`.

    Returns:
        Splits of `(image, label)`: a float32 image with values from 0 to 1 and an int32
        label.

    Raises:
        FileNotFoundError: the data set is missing and can't be downloaded.
        ValueError: the files of the data set are damaged.
    """
    builder = download(name, data_dir)
    with reading(builder):
        splits = builder.as_dataset(
            split=[f"train[:-{_HELD_OUT}]", f"train[-{_HELD_OUT}:]", "test"],
            as_supervised=True,
        )
        return Splits(*(_in_memory(part) for part in splits))


def _in_memory(split):
    # Stored as floats: to convert each image would take a third of the pipeline's time.
    images, labels = split.batch(len(split)).get_single_element()
    images, labels = tf.cast(images, tf.float32) / 255.0, tf.cast(labels, tf.int32)
    return tf.data.Dataset.from_tensor_slices((images, labels))
