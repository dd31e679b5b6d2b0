import os

import tensorflow as tf
import tensorflow_datasets as tfds

from keras_capsules.datasets.splits import Splits


def mnist(data_dir: str | os.PathLike | None = None) -> Splits:
    """MNIST, read through TensorFlow Datasets.

    55,000 images to train, the last 5,000 training images to validate, 10,000
    to test.

    Args:
        data_dir: folder of the prepared data sets. By default that of the
            environment variable `TFDS_DATA_DIR`, else `~/tensorflow_datasets`.
            MNIST is downloaded if it is missing.

    Returns:
        Splits of `(image, label)`: a float32 image `(28, 28, 1)` with values
        from 0 to 1 and an int32 label.

    Raises:
        FileNotFoundError: MNIST is missing and can't be downloaded.

    Example:

    ```python
    train, validation, test = datasets.mnist()
    model.fit(train.shuffle(10_000).batch(64), validation_data=validation.batch(64))
    ```

    Reference:
        LeCun, Cortes and Burges, The MNIST database of handwritten digits.
    """
    builder = tfds.builder("mnist", data_dir=data_dir)
    try:
        builder.download_and_prepare()
    except Exception as error:
        raise FileNotFoundError(
            f"MNIST is not in {builder.data_dir} and could not be downloaded "
            f"({type(error).__name__}: {error}). Set TFDS_DATA_DIR, or pass data_dir "
            "(--data-dir in the examples), to a folder that holds mnist/3.0.1; or "
            "make one on a machine with a network: tfds build mnist --data_dir FOLDER"
        ) from error
    splits = builder.as_dataset(
        split=["train[:-5000]", "train[-5000:]", "test"], as_supervised=True
    )
    return Splits(*(_in_memory(part) for part in splits))


def _in_memory(split):
    images, labels = split.batch(len(split)).get_single_element()
    images, labels = tf.cast(images, tf.float32) / 255.0, tf.cast(labels, tf.int32)
    return tf.data.Dataset.from_tensor_slices((images, labels))
