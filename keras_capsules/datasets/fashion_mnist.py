import os

from keras_capsules.datasets.pictures import pictures
from keras_capsules.datasets.splits import Splits


def fashion_mnist(data_dir: str | os.PathLike | None = None) -> Splits:
    """Loads Fashion-MNIST, images of clothes, through TensorFlow Datasets.

    There are 55,000 training, 5,000 validation and 10,000 test images. The validation
    images are the last 5,000 training images of the data set.

    Args:
        data_dir: as for `datasets.mnist`.

    Returns:
        Splits of `(image, label)`: a float32 image `(28, 28, 1)` with values
        from 0 to 1 and an int32 label.

    Raises:
        FileNotFoundError: Fashion-MNIST is missing and can't be downloaded.
        ValueError: the files of the data set are damaged.

    Example:

    ```python
    train, validation, test = datasets.fashion_mnist()
    ```

    Reference:
        Xiao, Rasul and Vollgraf, Fashion-MNIST: a novel image dataset for benchmarking
        machine learning algorithms (2017).
    """
    return pictures("fashion_mnist", data_dir)
