from typing import Any

import keras
from keras import layers

from keras_capsules import validation
from keras_capsules._backend import Conv2D

# The largest height and width of the features and of the primary capsules.
GRID = 8


def residual_backbone(
    input_shape: tuple[int, int, int],
    width: int = 32,
    blocks: int = 2,
    dtype: Any = None,
) -> keras.Model:
    """Builds a residual network that extracts a small grid of features.

    The first layer is a convolution, for large images with strides and pooling. Stages
    of residual blocks follow. Each stage after the first halves the grid and doubles
    the channels, until the grid is at most 8×8. There are three stages for 32×32 images
    and four for 224×224.

    Args:
        input_shape: `(height, width, channels)` of an image, at least 8×8 pixels.
        width: number of channels of the first stage.
        blocks: number of residual blocks in a stage, each with two convolutions.
        dtype: dtype or dtype policy of the layers; `None` for Keras's global policy.

    Returns:
        A functional model that maps images `(batch, height, width, channels)` with
        values of about 0 to 1 to features `(batch, new height, new width, channels)`.

    Raises:
        ValueError: an argument is out of its range, or the images are too small.

    Example:

    >>> from keras_capsules import models
    >>> models.residual_backbone((32, 32, 3)).output_shape
    (None, 8, 8, 128)

    Reference:
        He, Zhang, Ren and Sun, Deep residual learning for image recognition (2016),
        sections 3 and 4.2.
    """
    shape = validation.check_positive_integers("input_shape", input_shape, 3)
    channels = validation.check_positive_integer("width", width)
    validation.check_positive_integer("blocks", blocks)
    if min(shape[:2]) < GRID:
        raise ValueError(
            f"Argument `input_shape` must be at least {GRID}×{GRID} pixels. "
            f"Received: {shape}"
        )
    images = keras.Input(shape)
    largest = max(shape[:2])
    if largest <= 40:
        x = _convolution(images, channels, dtype=dtype)
    else:
        x = _convolution(images, channels, kernel_size=7, strides=2, dtype=dtype)
    x = layers.ReLU(dtype=dtype)(x)
    if largest > 80:
        x = layers.MaxPooling2D(
            3, 2, padding="same", data_format="channels_last", dtype=dtype
        )(x)
    for index in range(blocks):
        x = _block(x, channels, 1, f"stage_1_block_{index + 1}", dtype)
    stage = 1
    while max(x.shape[1:3]) > GRID:
        stage, channels = stage + 1, 2 * channels
        for index in range(blocks):
            strides = 1 if index else 2
            x = _block(x, channels, strides, f"stage_{stage}_block_{index + 1}", dtype)
    return keras.Model(images, x, name="residual_backbone")


def _convolution(x, channels, kernel_size=3, strides=1, dtype=None):
    x = Conv2D(
        channels,
        kernel_size,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        dtype=dtype,
    )(x)
    # With few images there are few steps, in which the averages must converge.
    return layers.BatchNormalization(momentum=0.9, dtype=dtype)(x)


def _block(x, channels, strides, name, dtype):
    shortcut = x
    if strides > 1:
        shortcut = _convolution(x, channels, 1, strides, dtype)
    x = _convolution(x, channels, 3, strides, dtype)
    x = _convolution(layers.ReLU(dtype=dtype)(x), channels, dtype=dtype)
    x = layers.Add(dtype=dtype)([x, shortcut])
    return layers.ReLU(dtype=dtype, name=name)(x)
