from typing import Any

import keras
from keras import ops

from keras_capsules import validation
from keras_capsules.losses.targets import targets


@keras.saving.register_keras_serializable(package="keras_capsules")
class MarginLoss(keras.losses.Loss):
    """Computes the margin loss between labels and the lengths of class capsules.

    `L = Σ_k T_k max(0, m⁺ − |v_k|)² + λ (1 − T_k) max(0, |v_k| − m⁻)²`, where
    T_k is 1 if class k is present. Several classes may be present.

    Args:
        present_margin: m⁺. A present class has no loss if its length is at least m⁺.
        absent_margin: m⁻. An absent class has no loss if its length is at most m⁻.
        absent_weight: λ, the weight of the absent classes.
        reduction: as for any Keras loss; `None` returns a value for each sample.
        name: name of the loss.
        dtype: dtype of the computation, `keras.config.floatx()` by default.

    Call arguments:
        y_true: integer labels `(batch,)` or `(batch, 1)`, or one-hot or
            multi-hot labels `(batch, classes)`. They may be soft labels, as from label
            smoothing or mixup. With one class, labels are always indicators, 1 where
            the class is present.
        y_pred: lengths of the class capsules, `(batch, classes)`.
        sample_weight: a weight for each sample, `(batch,)`.

    Raises:
        ValueError: an argument is not a finite number of at least 0; or the labels have
            a wrong shape or batch size, or values outside the classes. Within a
            compiled step only TensorFlow checks values. It raises
            `tf.errors.InvalidArgumentError` when the step runs. XLA, also with JAX,
            does not check them.

    Example:

    >>> import numpy as np
    >>> from keras_capsules import losses
    >>> lengths = np.array([[0.9, 0.3, 0.0]])
    >>> loss = losses.MarginLoss()(np.array([0]), lengths)
    >>> round(float(loss), 3)
    0.02

    Reference:
        Sabour, Frosst and Hinton, Dynamic routing between capsules (2017),
        equation 4.
    """

    def __init__(
        self,
        present_margin: float = 0.9,
        absent_margin: float = 0.1,
        absent_weight: float = 0.5,
        reduction: str | None = "sum_over_batch_size",
        name: str = "margin_loss",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        numbers = {
            "present_margin": present_margin,
            "absent_margin": absent_margin,
            "absent_weight": absent_weight,
        }
        for argument, value in numbers.items():
            setattr(self, argument, validation.check_at_least(argument, value, 0))

    def call(self, y_true, y_pred):
        t = targets(y_true, y_pred)
        present = ops.square(ops.relu(self.present_margin - y_pred))
        absent = ops.square(ops.relu(y_pred - self.absent_margin))
        return ops.sum(t * present + self.absent_weight * (1.0 - t) * absent, axis=-1)

    def get_config(self):
        return {
            **super().get_config(),
            "dtype": self.dtype,
            "present_margin": self.present_margin,
            "absent_margin": self.absent_margin,
            "absent_weight": self.absent_weight,
        }
