"""Reading of stereo pairs from TensorFlow Datasets, for smallNORB and toys."""

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_capsules.datasets.download import reading
from keras_capsules.datasets.photographs import Photographs, reduced

_FIELDS = ("label_category", "label_elevation", "label_azimuth", "instance")


def load(builder: tfds.core.DatasetBuilder, split: str, stereo: bool) -> Photographs:
    """Reads a split, with images at half their height and width.

    Args:
        builder: a prepared data set with the features of TFDS's `smallnorb`.
        split: `"train"` or `"test"`.
        stereo: whether to read both images of a pair, as two channels. Otherwise only
            the first one is read.

    Returns:
        The pairs in the order of TFDS, which is shuffled and always the same.
    """
    names = ("image", "image2") if stereo else ("image",)
    decoded = tfds.decode.PartialDecoding(dict.fromkeys((*names, *_FIELDS), True))

    def columns_of(batch):
        category, elevation, azimuth, instance = (
            tf.cast(batch[name], tf.int32) for name in _FIELDS
        )
        images = reduced(tf.concat([batch[name] for name in names], axis=-1))
        return images, category, 30 + 5 * elevation, 20 * azimuth, instance

    with reading(builder):
        dataset = builder.as_dataset(split=split, decoders=decoded)
        batches = dataset.batch(256).map(columns_of).as_numpy_iterator()
        columns = zip(*batches, strict=True)
        return Photographs(*(np.concatenate(column) for column in columns))


def load_both(
    builder: tfds.core.DatasetBuilder, stereo: bool
) -> tuple[Photographs, Photographs]:
    """Reads the training and the test pairs.

    Args:
        builder: as for `load`.
        stereo: as for `load`.

    Returns:
        The training and the test pairs.
    """
    return load(builder, "train", stereo), load(builder, "test", stereo)
