import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_capsules import validation

_ENDINGS = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp"}
# Of the images of a class: to validate, and as many to test.
_SHARE = 0.15


class ImageFolder(NamedTuple):
    """A folder of images, split into three parts.

    Attributes:
        train: pairs of an image and its label to learn from.
        validation: pairs set aside, to choose the best epoch by.
        test: pairs that results are reported on.
        class_names: the names of the subfolders, sorted; a label is a place among them.
        test_files: the files of `test`, in its order.
        unreadable: files that can't be read, with the reason.
    """

    train: tf.data.Dataset
    validation: tf.data.Dataset
    test: tf.data.Dataset
    class_names: tuple[str, ...]
    test_files: tuple[Path, ...]
    unreadable: dict[Path, str]


def image_folder(
    folder: str | os.PathLike, size: int | tuple[int, int] = 64, seed: int = 0
) -> ImageFolder:
    """Reads one's own images, from a folder with a subfolder for each class.

    PNG, JPEG, WebP, GIF and BMP files of any size and mode are read, also from folders
    within those of the classes. See `read_image` for what becomes of them. About 15 %
    of the images of each class are set aside to validate, and as many to test. The
    images are kept in memory as bytes: 10,000 of 64×64 take 120 MB.

    Args:
        folder: the folder.
        size: height and width of the images, an integer or a tuple of 2.
        seed: decides which images are set aside.

    Returns:
        The splits, with float32 images `(height, width, 3)` with values from 0 to 255
        and int32 labels, and the names of the classes.

    Raises:
        ValueError: an argument is out of its range, or the folder has fewer than two
            subfolders, or one of them has fewer than three images that can be read.

    Example:

    ```python
    folder = datasets.image_folder("flowers", size=64)
    model.fit(folder.train.shuffle(1_000).batch(32))
    ```
    """
    size = validation.check_window("size", size)
    root = Path(folder)
    names = sorted(
        path.name
        for path in (root.iterdir() if root.is_dir() else ())
        if path.is_dir() and not path.name.startswith(".")
    )
    if len(names) < 2:
        raise ValueError(
            "Argument `folder` must be a folder with a subfolder for each class, two "
            f"at least. Received: {root}, with the subfolders {names}"
        )
    random = np.random.default_rng(seed)
    parts, unreadable = {"train": [], "validation": [], "test": []}, {}
    for label, name in enumerate(names):
        examples = []
        for path in _files(root / name):
            try:
                examples.append((read_image(path, size), label, path))
            except Exception as error:  # what a damaged file raises is nowhere said
                unreadable[path] = f"{type(error).__name__}: {error}"
        if len(examples) < 3:
            raise ValueError(
                "Argument `folder` must have three images for each class at least. "
                f"Received: {len(examples)} that can be read in {root / name}"
            )
        held_out = max(1, round(_SHARE * len(examples)))
        order = [examples[index] for index in random.permutation(len(examples))]
        parts["validation"] += order[:held_out]
        parts["test"] += order[held_out : 2 * held_out]
        parts["train"] += order[2 * held_out :]
    # The classes are mixed: a large folder is shuffled in part only.
    random.shuffle(parts["train"])
    return ImageFolder(
        *map(_dataset, parts.values()),
        class_names=tuple(names),
        test_files=tuple(path for _, _, path in parts["test"]),
        unreadable=unreadable,
    )


def read_image(path: str | os.PathLike, size: int | tuple[int, int]) -> np.ndarray:
    """Reads an image file of any size and mode.

    It is turned as the camera was held, scaled until it covers `size` and cropped to
    that from the middle. What is transparent becomes white. Of an animation the first
    picture is read.

    Args:
        path: the file.
        size: height and width, an integer or a tuple of 2.

    Returns:
        Bytes `(height, width, 3)`.

    Raises:
        OSError: the file is missing or is no image; a damaged image can raise others.

    Example:

    ```python
    image = datasets.read_image("rose.jpg", size=64)
    ```
    """
    from PIL import Image, ImageOps

    height, width = validation.check_window("size", size)
    with Image.open(path) as image:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16"):
            # Its values go to 65,535, of which Pillow would keep what is below 256.
            image = Image.fromarray((np.asarray(image) >> 8).astype("uint8"))
        if image.mode in ("P", "PA", "LA") or "transparency" in image.info:
            image = image.convert("RGBA")
        if image.mode == "RGBA":
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
        image = image.convert("RGB")
        image = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
        return np.asarray(image)


def _files(folder):
    paths = (path for path in folder.rglob("*") if path.suffix.lower() in _ENDINGS)
    return sorted(path for path in paths if not path.name.startswith("."))


def _dataset(examples):
    images, labels, _ = zip(*examples, strict=True)
    pairs = np.stack(images), np.array(labels, "int32")
    dataset = tf.data.Dataset.from_tensor_slices(pairs)
    return dataset.map(lambda image, label: (tf.cast(image, tf.float32), label))
