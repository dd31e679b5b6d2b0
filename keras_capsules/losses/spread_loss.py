from typing import Any

import keras
from keras import ops

from keras_capsules import validation
from keras_capsules.losses.targets import targets


@keras.saving.register_keras_serializable(package="keras_capsules")
class SpreadLoss(keras.losses.Loss):
    """Computes the spread loss between labels and the activations of class capsules.

    `L = Σ_{k≠t} max(0, m − (a_t − a_k))²`, where t is the class of the sample.

    In the paper the margin starts small, so that few capsules become permanently
    inactive early in training; `callbacks.SpreadMarginSchedule` increases it. A new
    value of `margin` applies from the next step on. On JAX a compiled step keeps the
    old value: there use the callback, or call `compile` again.

    Args:
        margin: m. A wrong class has no loss if the activation of the true class exceeds
            its activation by at least m.
        reduction: as for any Keras loss; `None` returns a value for each sample.
        name: name of the loss.
        dtype: dtype of the computation, `keras.config.floatx()` by default.

    Call arguments:
        y_true: integer labels `(batch,)` or `(batch, 1)`, or one-hot labels
            `(batch, classes)`.
        y_pred: activations of the class capsules, `(batch, classes)`.
        sample_weight: a weight for each sample, `(batch,)`.

    Raises:
        ValueError: the margin is not positive and finite; or the labels have a wrong
            shape or batch size, have values outside the classes, or are multi-hot or
            soft (the loss needs one true class for each sample). Within a compiled step
            only TensorFlow checks values. It raises `tf.errors.InvalidArgumentError`
            when the step runs. XLA, also with JAX, does not check them.

    Example:

    >>> import numpy as np
    >>> from keras_capsules import losses
    >>> activations = np.array([[0.9, 0.3, 0.0]])
    >>> loss = losses.SpreadLoss(margin=0.9)(np.array([0]), activations)
    >>> round(float(loss), 3)
    0.09

    Reference:
        Hinton, Sabour and Frosst, Matrix capsules with EM routing (2018),
        equation 3.
    """

    def __init__(
        self,
        margin: float = 0.9,
        reduction: str | None = "sum_over_batch_size",
        name: str = "spread_loss",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        # TensorFlow would compile a number into the step as a constant.
        self._variable = keras.Variable(
            0.0, dtype=self.dtype, trainable=False, name="margin"
        )
        self.margin = margin

    @property
    def margin(self) -> float:
        return self._margin

    @margin.setter
    def margin(self, margin):
        self._margin = float(validation.check_positive("margin", margin))
        self._variable.assign(self._margin)

    def call(self, y_true, y_pred):
        t = targets(y_true, y_pred, several=False)
        true = ops.sum(t * y_pred, axis=-1, keepdims=True)
        missing = ops.relu(self._variable - (true - y_pred))
        return ops.sum((1.0 - t) * ops.square(missing), axis=-1)

    def get_config(self):
        return {**super().get_config(), "dtype": self.dtype, "margin": self.margin}
