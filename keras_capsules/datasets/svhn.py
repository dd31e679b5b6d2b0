import os

from keras_capsules.datasets.pictures import pictures
from keras_capsules.datasets.splits import Splits


def svhn(data_dir: str | os.PathLike | None = None) -> Splits:
    """Loads the cropped digits of Street View House Numbers.

    There are 68,257 training, 5,000 validation and 26,032 test images. The validation
    images are the last 5,000 training images of the data set. All images together take
    1.2 GB of memory.

    Args:
        data_dir: as for `datasets.mnist`.

    Returns:
        Splits of `(image, label)`: a float32 image `(32, 32, 3)` with values
        from 0 to 1 and an int32 label.

    Raises:
        FileNotFoundError: SVHN is missing and can't be downloaded.
        ValueError: the files of the data set are damaged.

    Example:

    ```python
    train, validation, test = datasets.svhn()
    ```

    Reference:
        Netzer et al., Reading digits in natural images with unsupervised feature
        learning (2011).
    """
    return pictures("svhn_cropped", data_dir)
