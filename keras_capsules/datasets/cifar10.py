import os

from keras_capsules.datasets.pictures import pictures
from keras_capsules.datasets.splits import Splits


def cifar10(data_dir: str | os.PathLike | None = None) -> Splits:
    """Loads CIFAR-10 through TensorFlow Datasets.

    There are 45,000 training, 5,000 validation and 10,000 test images. The validation
    images are the last 5,000 training images of the data set. All images together take
    0.7 GB of memory. `random_shift` by 4 pixels and `random_flip` are the usual
    augmentation.

    Args:
        data_dir: as for `datasets.mnist`.

    Returns:
        Splits of `(image, label)`: a float32 image `(32, 32, 3)` with values
        from 0 to 1 and an int32 label.

    Raises:
        FileNotFoundError: CIFAR-10 is missing and can't be downloaded.
        ValueError: the files of the data set are damaged.

    Example:

    ```python
    train, validation, test = datasets.cifar10()
    train = datasets.random_flip(datasets.random_shift(train.shuffle(10_000), 4))
    ```

    Reference:
        Krizhevsky, Learning multiple layers of features from tiny images (2009).
    """
    return pictures("cifar10", data_dir)
