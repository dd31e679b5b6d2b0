from typing import Any

import keras

from keras_capsules._backend.processes import replicas


class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` over the batch of all devices.

    An empty batch leaves the moving averages unchanged.

    Args:
        **kwargs: as for `keras.layers.BatchNormalization`, except `synchronized`.

    Example:

    >>> import keras
    >>> layer = BatchNormalization()
    >>> tuple(layer(keras.ops.ones((0, 3)), training=True).shape)
    (0, 3)
    >>> float(layer.moving_mean[0])
    0.0
    """

    def __init__(self, **kwargs: Any) -> None:
        # On JAX a batch is one array, even if it is sharded over several devices.
        super().__init__(synchronized=replicas() > 1, **kwargs)

    def call(self, inputs, training=None, mask=None):
        if inputs.shape[0] == 0:
            training = False
        return super().call(inputs, training=training, mask=mask)
