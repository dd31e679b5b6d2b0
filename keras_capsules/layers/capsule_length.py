from typing import Any

import keras
from keras import ops

from keras_capsules.ops import safe_norm

# By how much rounding may lengthen a pose of length 1. For float16 and bfloat16 this
# is the machine epsilon: squash and the norm compute in float32 and round by less. In
# float64 it is what the norm adds under the root.
_ROUNDING = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float64": 1e-7}


@keras.saving.register_keras_serializable(package="keras_capsules")
class CapsuleLength(keras.layers.Layer):
    """Computes the length of each capsule, which is the score of its class.

    A squashed pose is not longer than 1, but rounding can make it longer, by 0.2 % in
    bfloat16. A length that exceeds 1 by no more than this rounding is set to 1, so that
    the lengths of squashed poses are probabilities. The gradient is that of the
    unchanged length. Longer poses keep their length.

    Args:
        **kwargs: `name`, `dtype` and the other arguments of
            `keras.layers.Layer`. By default the lengths have the variable dtype,
            which is float32 under a mixed policy too, so that a loss can use them.

    Call arguments:
        inputs: poses of capsules.

    Input shape:
        `(batch, …, capsules, D)`.

    Output shape:
        `(batch, …, capsules)`, values from 0 to 1 for squashed poses.

    Raises:
        ValueError: the input has fewer than 3 axes.

    Example:

    >>> import keras
    >>> from keras_capsules import layers
    >>> poses = keras.ops.ones((2, 10, 16)) / 5
    >>> lengths = layers.CapsuleLength()(poses)
    >>> tuple(lengths.shape), round(float(lengths[0, 0]), 3)
    ((2, 10), 0.8)

    Reference:
        Sabour, Frosst and Hinton, Dynamic routing between capsules (2017),
        section 3.
    """

    def __init__(self, **kwargs: Any) -> None:
        if kwargs.get("dtype") is None:
            kwargs["dtype"] = keras.config.dtype_policy().variable_dtype
        # The dtype of the poses determines by how much rounding may exceed 1.
        super().__init__(autocast=False, **kwargs)
        self.supports_masking = True

    def build(self, input_shape):
        if len(input_shape) < 3:
            raise ValueError(
                "`inputs` must have shape (batch, …, capsules, pose size). "
                f"Received: {tuple(input_shape)}"
            )

    def call(self, inputs):
        inputs = ops.convert_to_tensor(inputs)
        rounding = _ROUNDING.get(keras.backend.standardize_dtype(inputs.dtype), 1e-5)
        lengths = safe_norm(inputs)
        above = ops.where(lengths < 1.0 + rounding, ops.relu(lengths - 1.0), 0.0)
        return ops.cast(lengths - ops.stop_gradient(above), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape[:-1])
