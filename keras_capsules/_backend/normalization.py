from typing import Any

import keras
from keras import ops

from keras_capsules._backend.processes import replicas


class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` whose moving averages start at the first batch.

    Keras starts them at 0 and 1. With a momentum of 0.999 a variance of 0.001 would
    be overestimated eightfold after 5,000 batches.

    The batch is that of all devices. A batch that is known to be empty when the graph
    is built leaves the averages unchanged.

    Args:
        **kwargs: as for `keras.layers.BatchNormalization`, except `synchronized` and
            `renorm`.

    Example:

    >>> import keras
    >>> layer = BatchNormalization(momentum=0.999)
    >>> outputs = layer(3.0 * keras.ops.ones((8, 2)), training=True)
    >>> float(layer.moving_mean[0]), float(layer.moving_variance[0])
    (3.0, 0.0)
    """

    def __init__(self, **kwargs: Any) -> None:
        # On JAX a batch is one array, even if it is sharded over several devices.
        super().__init__(synchronized=replicas() > 1, **kwargs)

    def call(self, inputs, training=None, mask=None):
        if not training or not self.trainable or inputs.shape[0] == 0:
            return super().call(inputs, training=False, mask=mask)
        # Statistics in half precision overflow.
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        mean, variance = self._moments(x, mask)
        begun = ops.logical_or(
            ops.any(ops.not_equal(self.moving_mean, 0.0)),
            ops.any(ops.not_equal(self.moving_variance, 1.0)),
        )
        momentum = ops.where(begun, ops.cast(self.momentum, x.dtype), 0.0)
        for average, value in (
            (self.moving_mean, mean),
            (self.moving_variance, variance),
        ):
            average.assign(
                momentum * ops.cast(average, x.dtype) + (1.0 - momentum) * value
            )
        outputs = ops.batch_normalization(
            x,
            mean,
            variance,
            axis=self.axis,
            offset=ops.cast(self.beta, x.dtype) if self.center else None,
            scale=ops.cast(self.gamma, x.dtype) if self.scale else None,
            epsilon=self.epsilon,
        )
        return ops.cast(outputs, self.compute_dtype)
