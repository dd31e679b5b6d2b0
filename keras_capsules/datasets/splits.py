from typing import NamedTuple

import tensorflow as tf


class Splits(NamedTuple):
    """The three parts of a data set, each of `(image, label)` pairs.

    Attributes:
        train: images for training.
        validation: images held out from training, for the choice of the best epoch.
        test: images for the final evaluation.
    """

    train: tf.data.Dataset
    validation: tf.data.Dataset
    test: tf.data.Dataset
