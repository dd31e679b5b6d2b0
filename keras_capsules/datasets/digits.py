import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keras_capsules.datasets.splits import Splits


def digits() -> Splits:
    """Loads the 1,797 handwritten digits that come with scikit-learn.

    The data set needs no download. Images of 8×8 pixels with 17 grey levels are
    enlarged to the 28×28 pixels of MNIST. The split is stratified and always the same:
    1,257 training, 180 validation and 360 test images.

    Returns:
        Splits of `(image, label)`: a float32 image `(28, 28, 1)` with values
        from 0 to 1 and an int32 label.

    Example:

    >>> from keras_capsules import datasets
    >>> train, validation, test = datasets.digits()
    >>> len(train), len(validation), len(test)
    (1257, 180, 360)

    Reference:
        Alpaydin and Kaynak, Optical recognition of handwritten digits, UCI
        machine learning repository (1998).
    """
    small, labels = load_digits(return_X_y=True)
    small = small.reshape(-1, 8, 8, 1).astype("float32") / 16.0
    images = tf.image.resize(small, (28, 28), "bicubic").numpy().clip(0.0, 1.0)
    labels = labels.astype("int32")

    index = np.arange(len(labels))
    rest, test = train_test_split(index, test_size=360, stratify=labels, random_state=0)
    train, validation = train_test_split(
        rest, test_size=180, stratify=labels[rest], random_state=0
    )
    return Splits(
        *(
            tf.data.Dataset.from_tensor_slices((images[part], labels[part]))
            for part in (train, validation, test)
        )
    )
