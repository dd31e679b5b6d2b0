"""Convolutions in the fastest form for each backend."""

import math
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_capsules")
class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` for images whose channels are the last axis.

    A strided convolution without padding is computed by `strided_convolution`. A
    strided convolution with a 1×1 kernel is computed without strides, from the pixels
    that the strides reach.

    Args:
        *args: as for `keras.layers.Conv2D`.
        **kwargs: as for `keras.layers.Conv2D`, except `data_format` and `groups`.

    Example:

    >>> import keras
    >>> tuple(Conv2D(4, 3, 2)(keras.ops.ones((2, 9, 9, 3))).shape)
    (2, 4, 4, 4)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "data_format": "channels_last"})

    def convolution_op(self, inputs, kernel):
        if self.kernel_size == (1, 1):
            # With strides and few channels, oneDNN's gradient of the kernel writes
            # beyond its memory on CPUs: github.com/uxlfoundation/oneDNN/issues/6035.
            down, right = self.strides
            images = inputs[:, ::down, ::right]
            outputs = ops.conv(images, kernel, 1, data_format="channels_last")
        elif self.padding == "valid" and max(self.strides) > 1:
            outputs = strided_convolution(inputs, kernel, self.strides)
        else:
            outputs = super().convolution_op(inputs, kernel)
        _, *shape = self.compute_output_shape(inputs.shape)
        if keras.backend.backend() != "tensorflow" or None in shape:
            return outputs
        # On some CPUs TensorFlow returns an empty batch in the shape of the input.
        return ops.reshape(outputs, (-1, *shape))


def strided_convolution(images: Any, kernel: Any, strides: tuple[int, int]) -> Any:
    """Computes a convolution without padding in the fastest form for the device.

    With TensorFlow on a CPU, TensorFlow's gradient of the kernel takes four times as
    long as the convolution if there are strides. It is computed instead as a
    convolution of the images with the gradient of the output, in which the batch takes
    the place of the channels and the strides become dilations:
    `∂W_kl = Σ_bij x_b,si+k,sj+l ∂y_bij`.

    With JAX on a GPU, for bfloat16 images of at most 20×20 and a large kernel, it is
    computed as a convolution without strides, see `convolution_over_blocks`.

    Args:
        images: `(batch, height, width, channels)`.
        kernel: `(KH, KW, channels, filters)`, of the dtype of the images.
        strides: strides along height and width.

    Returns:
        `(batch, rows, columns, filters)`.

    Example:

    >>> import keras
    >>> images, kernel = keras.ops.ones((2, 9, 9, 3)), keras.ops.ones((3, 3, 3, 4))
    >>> tuple(strided_convolution(images, kernel, (2, 2)).shape)
    (2, 4, 4, 4)
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if not tf.config.list_physical_devices("GPU"):
            return _on_a_processor(images, kernel, strides)
    if _is_quick_over_blocks(images, kernel, strides):
        return convolution_over_blocks(images, kernel, strides)
    return ops.conv(images, kernel, strides, "valid", data_format="channels_last")


def convolution_over_blocks(images: Any, kernel: Any, strides: tuple[int, int]) -> Any:
    """Computes a strided convolution as one without strides over blocks of pixels.

    The pixels of a block become channels. With strides of 2, for example, a block has
    2×2 pixels and four times as many channels. A 9×9 kernel, padded with zeros to
    10×10, then covers 5×5 blocks.

    Args:
        images, kernel, strides: as for `strided_convolution`.

    Returns:
        `(batch, rows, columns, filters)`.

    Example:

    >>> import keras
    >>> images, kernel = keras.ops.ones((2, 9, 9, 3)), keras.ops.ones((3, 3, 3, 4))
    >>> tuple(convolution_over_blocks(images, kernel, (2, 2)).shape)
    (2, 4, 4, 4)
    """
    blocks = [-(-k // s) for k, s in zip(kernel.shape, strides, strict=False)]
    for axis, (count, stride) in enumerate(zip(blocks, strides, strict=True)):
        steps = (images.shape[axis + 1] - kernel.shape[axis]) // stride
        kernel = _resized(kernel, axis, count * stride)
        images = _resized(images, axis + 1, (steps + count) * stride)
    (a, b), (rows, columns) = strides, blocks
    *_, channels, filters = kernel.shape
    kernel = ops.reshape(kernel, (rows, a, columns, b, channels, filters))
    kernel = ops.transpose(kernel, (0, 2, 1, 3, 4, 5))
    kernel = ops.reshape(kernel, (rows, columns, -1, filters))
    _, height, width, _ = images.shape
    images = ops.reshape(images, (-1, height // a, a, width // b, b, channels))
    images = ops.transpose(images, (0, 1, 3, 2, 4, 5))
    images = ops.reshape(images, (-1, height // a, width // b, a * b * channels))
    return ops.conv(images, kernel, 1, "valid", data_format="channels_last")


def _resized(x, axis, size):
    """Pads with zeros, or truncates, at the end of an axis."""
    missing = size - x.shape[axis]
    if missing > 0:
        widths = [[0, 0]] * len(x.shape)
        widths[axis] = [0, missing]
        return ops.pad(x, widths)
    return x[(slice(None),) * axis + (slice(size),)]


def _is_quick_over_blocks(images, kernel, strides):
    # Measured on an H200 in bfloat16, with 256 channels and a 9×9 kernel: a fifth of
    # the time for 20×20 images, and no gain for 28×28.
    if keras.backend.backend() != "jax":
        return False
    import jax

    half = keras.backend.standardize_dtype(images.dtype) == "bfloat16"
    small = images.shape[1] * images.shape[2] <= 20 * 20
    # A small kernel would consist mostly of padding.
    windows = list(zip(kernel.shape, strides, strict=False))
    filled = math.prod(-(-k // s) * s for k, s in windows)
    large = filled <= 1.25 * math.prod(k for k, _ in windows)
    return half and small and large and jax.default_backend() == "gpu"


def _on_a_processor(images, kernel, strides):
    import tensorflow as tf

    def to_images(images, kernel, upstream):
        return tf.raw_ops.Conv2DBackpropInput(
            input_sizes=tf.shape(images),
            filter=kernel,
            out_backprop=upstream,
            strides=(1, *strides, 1),
            padding="VALID",
        )

    @tf.custom_gradient
    def convolution(images, kernel):
        def gradient(upstream):
            of_kernel = to_kernel(images, upstream)[
                : kernel.shape[0], : kernel.shape[1]
            ]
            return to_images(images, kernel, upstream), of_kernel

        return tf.nn.conv2d(images, kernel, strides, "VALID"), gradient

    # TensorFlow can't differentiate a convolution with dilations on a CPU.
    @tf.custom_gradient
    def to_kernel(images, upstream):
        found = tf.nn.conv2d(
            tf.transpose(images, (3, 1, 2, 0)),  # (channels, height, width, batch)
            tf.transpose(upstream, (1, 2, 0, 3)),  # (rows, columns, batch, filters)
            1,
            "VALID",
            dilations=strides,
        )

        def gradient(slope):
            return to_images(images, slope, upstream), convolution(images, slope)

        # Pixels that no stride reaches lead to rows and columns beyond the kernel.
        return tf.transpose(found, (1, 2, 0, 3)), gradient

    return convolution(tf.convert_to_tensor(images), tf.convert_to_tensor(kernel))
