from typing import NamedTuple

import tensorflow as tf


class Splits(NamedTuple):
    """The three parts of a data set, each of `(image, label)` pairs.

    Attributes:
        train: what a network learns from.
        validation: training images set aside, to choose the best epoch by.
        test: what results are reported on.
    """

    train: tf.data.Dataset
    validation: tf.data.Dataset
    test: tf.data.Dataset
