import os

from keras_capsules.datasets.pictures import pictures
from keras_capsules.datasets.splits import Splits


def mnist(data_dir: str | os.PathLike | None = None) -> Splits:
    """Loads MNIST through TensorFlow Datasets.

    There are 55,000 training, 5,000 validation and 10,000 test images. The validation
    images are the last 5,000 training images of the data set.

    Args:
        data_dir: folder of the prepared data sets. By default it is the folder in the
            environment variable `TFDS_DATA_DIR`, or `~/tensorflow_datasets`. MNIST is
            downloaded if it is missing.

    Returns:
        Splits of `(image, label)`: a float32 image `(28, 28, 1)` with values
        from 0 to 1 and an int32 label.

    Raises:
        FileNotFoundError: MNIST is missing and can't be downloaded.
        ValueError: the files of the data set are damaged.

    Example:

    ```python
    train, validation, test = datasets.mnist()
    model.fit(train.shuffle(10_000).batch(64), validation_data=validation.batch(64))
    ```

    Reference:
        LeCun, Cortes and Burges, The MNIST database of handwritten digits.
    """
    return pictures("mnist", data_dir)
