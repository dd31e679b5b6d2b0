import os
import re
from itertools import chain
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_capsules.datasets.photographs import (
    Photographs,
    check_crops,
    reduced,
    splits,
)
from keras_capsules.datasets.splits import Splits
from keras_capsules.validation import check_positive_integers

CATEGORIES = ("apple", "car", "cow", "cup", "dog", "horse", "pear", "tomato")
TEST_OBJECTS = (6, 7, 8, 9, 10)


def eth80(
    data_dir: str | os.PathLike,
    test_objects: tuple[int, ...] = TEST_OBJECTS,
    crops: int = 1,
    seed: int = 0,
) -> Splits:
    """Loads ETH-80, photographs of real objects from 41 viewpoints.

    The data set has 3,280 colour photographs of 80 objects: ten each of apples, cars,
    cows, cups, dogs, horses, pears and tomatoes, with labels 0 to 7. Some objects of
    each category are for training and the others for testing. Images are downsampled to
    48×48 and then preprocessed like those of `datasets.smallnorb`; each colour channel
    is standardized separately. A tenth of the training photographs, always the same, is
    for validation. They show the training objects from other viewpoints, so the
    validation is easier than the test.

    Nothing is downloaded. `data_dir` must contain a folder for each category, with
    files such as `car/car12-066-207.png`: car 12 at a polar angle of 66 degrees, which
    is 24 degrees above the horizon, and an azimuth of 207 degrees. Other files and
    folders are ignored. The original archive has a folder for each object; move the
    pictures of a category into one folder.

    Args:
        data_dir: the folder that contains the folders `apple` to `tomato`.
        test_objects: the positions, from 1 to 10, of the test objects of each category,
            in the order of the object numbers. The cars have the numbers 1, 2, 3, 5, 6,
            7, 9, 11, 12 and 14, so car 5 has position 4. `(1,)` to `(10,)` leave out
            one object of each category at a time. By default they are 6 to 10.
        crops: as for `datasets.smallnorb`.
        seed: as for `datasets.smallnorb`.

    Returns:
        Splits of `(image, label)`: a float32 image `(32, 32, 3)` and an int32 label.
        With `crops` above 1 a test image is `(crops², 32, 32, 3)`.

    Raises:
        ValueError: `data_dir` is not a folder, lacks the pictures of a category or has
            one that can't be read, or another argument is out of its range.

    Example:

    ```python
    errors = []
    for test_object in range(1, 11):
        train, validation, test = datasets.eth80("eth80", test_objects=(test_object,))
        model = models.MatrixCapsNet((32, 32, 3), classes=8, variant="small")
        model.compile("adam", losses.SpreadLoss(), metrics=["accuracy"])
        model.fit(train.shuffle(3_000).batch(64), validation_data=validation.batch(64))
        errors.append(1.0 - model.evaluate(test.batch(64))[1])
    print(sum(errors) / 10)
    ```

    Reference:
        Leibe and Schiele, Analyzing appearance and contour based methods for object
        categorization (2003).
    """
    check_crops(crops)
    return splits(*load_eth80(data_dir, test_objects), crops, seed)


def load_eth80(
    data_dir: str | os.PathLike, test_objects: tuple[int, ...] = TEST_OBJECTS
) -> tuple[Photographs, Photographs]:
    """Reads the training and the test photographs.

    Args:
        data_dir: as for `eth80`.
        test_objects: as for `eth80`.

    Returns:
        The training and the test photographs, both shuffled, always in the same order.

    Raises:
        ValueError: as for `eth80`.
    """
    columns = _columns(data_dir)
    paths, labels, _, _, instances = columns
    # A copy of the data set may lack objects of some category.
    objects = 1 + min(instances[labels == label].max() for label in set(labels))
    _check_test_objects(test_objects, objects)

    order = np.random.default_rng(0).permutation(len(paths))
    images = np.stack([_image(path) for path in paths[order]])
    photographs = Photographs(images, *(column[order] for column in columns[1:]))
    test = np.isin(photographs.instances + 1, test_objects)
    return photographs.take(~test), photographs.take(test)


def _columns(data_dir):
    """Returns the paths of all pictures and the other columns of `Photographs`."""
    if data_dir is None or not Path(data_dir).is_dir():
        raise _wrong(data_dir, "no folder")
    rows = {
        category: _rows(Path(data_dir, category), label)
        for label, category in enumerate(CATEGORIES)
    }
    lacking = [category for category in CATEGORIES if not rows[category]]
    if lacking:
        raise _wrong(data_dir, f"no pictures of {', '.join(lacking)}")
    paths, *numbers = zip(*chain.from_iterable(rows.values()), strict=True)
    return np.array(paths), *(np.array(column, "int32") for column in numbers)


def _rows(folder, label):
    """Returns path, label, elevation, azimuth and instance of a category's pictures."""
    name = re.compile(rf"{folder.name}(\d+)-(\d{{3}})-(\d{{3}})\.png")
    found = [(path, name.fullmatch(path.name)) for path in folder.glob("*.png")]
    pictures = sorted(
        (*map(int, match.groups()), path) for path, match in found if match
    )
    objects = sorted({number for number, *_ in pictures})
    return [
        (path, label, 90 - polar, azimuth, objects.index(number))
        for number, polar, azimuth, path in pictures
    ]


def _check_test_objects(test_objects, objects):
    chosen = set(check_positive_integers("test_objects", test_objects, None))
    positions = set(range(1, objects + 1))
    if not chosen or len(chosen) < len(test_objects) or not chosen < positions:
        raise ValueError(
            "Argument `test_objects` must be one or more different positions from 1 to "
            f"{objects}, the number of objects of each category, but not all of them. "
            f"Received: test_objects={test_objects}"
        )


def _image(path):
    try:
        pixels = tf.io.decode_png(tf.io.read_file(str(path)), channels=3)
    except tf.errors.OpError as error:
        raise _wrong(path.parents[1], f"{path} can't be read") from error
    return reduced(pixels).numpy()


def _wrong(data_dir, reason):
    return ValueError(
        "Argument `data_dir` must be the folder of ETH-80, which holds the folders "
        f"{', '.join(CATEGORIES)} with files CATEGORY/OBJECT-POLAR-AZIMUTH.png. "
        f"Received: data_dir={data_dir} ({reason})"
    )
