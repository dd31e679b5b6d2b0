"""Patches of images, as in a convolution."""

import functools
from typing import Any

import numpy as np
from keras import ops

from keras_capsules import validation


def extract_patches(
    images: Any,
    size: int | tuple[int, int],
    strides: int | tuple[int, int] | None = None,
    padding: str = "valid",
) -> Any:
    """Extracts patches from images, in the order of `keras.ops.image.extract_patches`.

    The pixels are gathered by index. The functions of this name in TensorFlow and Keras
    use a convolution with a kernel of zeros and ones instead. That takes more time than
    the votes of a capsule layer, rounds the values on some devices, and turns all
    elements of a patch with one infinity into NaN.

    Args:
        images: tensor `(batch, height, width, channels)`, every size known but the
            batch.
        size: height and width of a patch, an integer or a tuple of 2.
        strides: steps along height and width from one patch to the next, an integer
            or a tuple of 2; `None` uses the size of a patch.
        padding: `"valid"`, or `"same"`, which pads the image with zeros.

    Returns:
        Tensor `(batch, rows, columns, size[0] · size[1] · channels)` of the dtype of
        the images.

    Raises:
        ValueError: an argument is out of its range, or a patch is larger than the
            image.

    Example:

    >>> import keras
    >>> from keras_capsules.ops import extract_patches
    >>> images = keras.ops.reshape(keras.ops.arange(9), (1, 3, 3, 1))
    >>> patches = extract_patches(images, size=2, strides=1)
    >>> [[int(x) for x in patch] for patch in patches[0, 0]]
    [[0, 1, 3, 4], [1, 2, 4, 5]]
    """
    images = ops.convert_to_tensor(images)
    size = validation.check_window("size", size)
    strides = validation.check_window("strides", size if strides is None else strides)
    validation.check_one_of("padding", padding, ("valid", "same"))
    expected = "(batch, height, width, channels)"
    shape = validation.check_shape("images", images, expected, 4, static=(1, 2, 3))
    if padding == "valid":
        validation.check_receptive_field("size", size, shape[1:3])
    _, height, width, channels = shape
    positions = patch_positions((height, width), size, strides, padding)
    x = ops.reshape(images, (-1, height * width, channels))
    if padding == "same":
        x = ops.concatenate([x, ops.zeros_like(x[:, :1])], axis=1)
    patches = ops.take(x, positions.ravel(), axis=1)
    return ops.reshape(
        patches, (-1, *positions.shape[:2], positions.shape[2] * channels)
    )


@functools.lru_cache(maxsize=64)
def patch_positions(
    image_size: tuple[int, int],
    size: tuple[int, int],
    strides: tuple[int, int],
    padding: str,
) -> np.ndarray:
    """Returns the indices of the pixels of each patch, row by row.

    Args:
        image_size: height and width of the image.
        size: height and width of a patch.
        strides: steps along height and width from one patch to the next.
        padding: `"valid"` or `"same"`.

    Returns:
        Integers `(rows, columns, size[0] · size[1])`. The index `height · width` is
        padding.
    """
    pixels = int(np.prod(image_size))
    positions = np.arange(pixels).reshape(image_size)
    if padding == "same":
        borders = []
        for length, window, step in zip(image_size, size, strides, strict=True):
            missing = max((-(-length // step) - 1) * step + window - length, 0)
            borders.append((missing // 2, missing - missing // 2))
        positions = np.pad(positions, borders, constant_values=pixels)
    windows = np.lib.stride_tricks.sliding_window_view(positions, size)
    windows = windows[:: strides[0], :: strides[1]]
    positions = windows.reshape(*windows.shape[:2], -1)
    positions.flags.writeable = False  # the cache returns it again
    return positions
