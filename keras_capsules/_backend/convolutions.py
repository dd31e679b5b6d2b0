"""Convolutions that each backend computes quickly."""

from typing import Any

import keras
from keras import ops


def strided_convolution(images: Any, kernel: Any, strides: tuple[int, int]) -> Any:
    """A convolution without padding whose gradients are quick on processors too.

    With TensorFlow on a processor the usual gradient of the kernel takes four times as
    long as the convolution if it has strides. The same sums are a convolution of the
    images with the gradient of the output, the batch for channels and the strides for
    dilations: `∂W_kl = Σ_bij x_b,si+k,sj+l ∂y_bij`.

    Args:
        images: `(batch, height, width, channels)`.
        kernel: `(KH, KW, channels, filters)`, of the dtype of the images.
        strides: steps along height and width.

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
    return ops.conv(images, kernel, strides, "valid", data_format="channels_last")


def _on_a_processor(images, kernel, strides):
    import tensorflow as tf

    @tf.custom_gradient
    def convolution(images, kernel):
        def gradient(upstream):
            of_images = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(images),
                filter=kernel,
                out_backprop=upstream,
                strides=(1, *strides, 1),
                padding="VALID",
            )
            of_kernel = tf.nn.conv2d(
                tf.transpose(images, (3, 1, 2, 0)),  # (channels, height, width, batch)
                tf.transpose(upstream, (1, 2, 0, 3)),  # (rows, columns, batch, filters)
                1,
                "VALID",
                dilations=strides,
            )
            # Pixels that no stride reached leave rows and columns beyond the kernel.
            height, width = kernel.shape[:2]
            of_kernel = tf.transpose(of_kernel[:, :height, :width], (1, 2, 0, 3))
            return of_images, of_kernel

        return tf.nn.conv2d(images, kernel, strides, "VALID"), gradient

    return convolution(tf.convert_to_tensor(images), tf.convert_to_tensor(kernel))
