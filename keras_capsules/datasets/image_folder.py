import os
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_capsules import validation

_ENDINGS = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
# The percentage of the images of a class for validation, and also for testing.
_SHARE = 15


class ImageFolder(NamedTuple):
    """A folder of images, split into three parts.

    Attributes:
        train: `(image, label)` pairs for training.
        validation: `(image, label)` pairs for the choice of the best epoch.
        test: `(image, label)` pairs for the final evaluation.
        class_names: the sorted names of the subfolders. A label is an index into them.
        test_files: the files of the images in `test`, in the same order.
        unreadable: a dict of the files that can't be read, with the reason.
    """

    train: tf.data.Dataset
    validation: tf.data.Dataset
    test: tf.data.Dataset
    class_names: tuple[str, ...]
    test_files: tuple[Path, ...]
    unreadable: dict[Path, str]


def image_folder(
    folder: str | os.PathLike, size: int | tuple[int, int] = 64
) -> ImageFolder:
    """Loads images from a folder that has a subfolder for each class.

    `image_files` finds the images of each class, also in subfolders of its folder, and
    `read_image` reads, scales and crops them. 15 % of the images of each class, but at
    least one, are for validation, and as many for testing. The split depends on the
    paths of the files, so most files stay in the same part if others are added. Images
    are kept in memory as bytes: 10,000 images of 64×64 pixels take 120 MB.

    Args:
        folder: a folder with a subfolder for each class.
        size: height and width of the images, an integer or a tuple of 2.

    Returns:
        An `ImageFolder`. Images are float32 `(height, width, 3)` with values from 0 to
        255, labels are int32.

    Raises:
        ValueError: an argument is out of its range, the folder has fewer than two
            subfolders, or one of them has fewer than three images that can be read.

    Example:

    ```python
    folder = datasets.image_folder("flowers", size=64)
    model.fit(folder.train.shuffle(1_000).batch(32))
    ```
    """
    size = validation.check_window("size", size)
    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"Argument `folder` must be a folder. Received: {root}")
    names = sorted(
        path.name
        for path in root.iterdir()
        if path.is_dir() and not path.name.startswith(".")
    )
    if len(names) < 2:
        raise ValueError(
            "Argument `folder` must be a folder with a subfolder for each class, and "
            f"at least two. Received: {root}, with the subfolders {names}"
        )
    parts, unreadable = {"train": [], "validation": [], "test": []}, {}
    for label, name in enumerate(names):
        examples = {}
        for path in image_files(root / name):
            try:
                examples[path] = read_image(path, size), label, path
            except Exception as error:  # Pillow does not document its errors
                unreadable[path] = f"{type(error).__name__}: {error}"
        if len(examples) < 3:
            raise ValueError(
                "Argument `folder` must have at least three images for each class. "
                f"Received: {len(examples)} that can be read in {root / name}"
            )
        for part, paths in _split(examples, root).items():
            parts[part] += [examples[path] for path in paths]
    # The classes are mixed here, as `shuffle` mixes a large data set only locally.
    np.random.default_rng(0).shuffle(parts["train"])
    return ImageFolder(
        *map(_dataset, parts.values()),
        class_names=tuple(names),
        test_files=tuple(path for _, _, path in parts["test"]),
        unreadable=unreadable,
    )


def image_files(folder: str | os.PathLike) -> list[Path]:
    """Returns the paths of the image files in a folder and its subfolders.

    Args:
        folder: the folder.

    Returns:
        The sorted paths of all PNG, JPEG, WebP, GIF, BMP and TIFF files that are not
        hidden.

    Example:

    ```python
    paths = datasets.image_files("flowers")
    ```
    """
    return sorted(
        path
        for path in Path(folder).rglob("*")
        if path.suffix.lower() in _ENDINGS
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def read_image(path: str | os.PathLike, size: int | tuple[int, int]) -> np.ndarray:
    """Reads an image file, and scales and crops the image to a size.

    The image is rotated as its EXIF orientation requires, scaled until it covers
    `size`, and cropped to the centre. Transparent pixels are blended with white. The
    first frame of an animation is read.

    Args:
        path: path of the file.
        size: height and width of the result, an integer or a tuple of 2.

    Returns:
        A uint8 array `(height, width, 3)`.

    Raises:
        OSError: the file is missing or is not an image. A damaged image can raise
            other errors.
        ValueError: `size` is out of its range, or the values of the image are 32-bit
            integers or floats, whose range is unknown.

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
            # Values are up to 65,535. Pillow would clip them to 255.
            values = np.asarray(image)
            clear = values == image.info.get("transparency", -1)
            values = np.where(clear, 255, values >> 8)
            image = Image.fromarray(values.astype("uint8"))
        if image.mode in ("I", "F"):
            raise ValueError(f"the values of mode {image.mode} have no known range")
        if image.mode in ("P", "PA", "LA") or "transparency" in image.info:
            image = image.convert("RGBA")
        if image.mode == "RGBA":
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
        image = image.convert("RGB")
        image = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
        return np.asarray(image)


def _split(paths, root):
    """Splits the files of a class into the three parts."""
    order = sorted(paths, key=lambda path: _hash(str(path.relative_to(root))))
    count = max(1, (_SHARE * len(order) + 50) // 100)
    return {
        "train": order[2 * count :],
        "validation": order[count : 2 * count],
        "test": order[:count],
    }


def _hash(text):
    return sha256(os.fsencode(text)).digest()


def _dataset(examples):
    images, labels, _ = zip(*examples, strict=True)
    pairs = np.stack(images), np.array(labels, "int32")
    dataset = tf.data.Dataset.from_tensor_slices(pairs)
    return dataset.map(lambda image, label: (tf.cast(image, tf.float32), label))
