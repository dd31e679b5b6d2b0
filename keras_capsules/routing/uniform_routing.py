from typing import Any

import keras

from keras_capsules.ops import squash
from keras_capsules.routing._kernels import LENGTH, stddev_for
from keras_capsules.routing.moment_routing import MomentRouting


@keras.saving.register_keras_serializable(package="keras_capsules")
class UniformRouting(MomentRouting):
    """Uniform routing: each child is divided equally among all parents.

    It is dynamic routing with one iteration, and the baseline for all other routings:

    - `c_ij = 1 / parents`
    - `v_j = squash(Σ_i c_ij V_ij)`

    The activation of a parent is the length of its pose. With one kernel for all
    children, `DigitCapsule(10, routing="uniform", share_kernel=True)`, it was reported
    to be as robust to affine transformations as networks with routing.

    Args:
        block: how many images are routed at a time. `None` chooses the number, see
            `MomentRouting`. It changes speed and memory, not the result.
        **kwargs: `name` and the other arguments of `keras.layers.Layer`.

    Call arguments:
        poses: poses of the children.
        kernel: the transformation matrices from poses to votes.
        activations: activations of the children. Not used.
        receptive_fields: the `ops.ReceptiveFields` of the layer. Each field is routed
            by itself.
        mask: True for each child, False for padding.

    Input shape:
        `poses` `(batch, children, P, Q)` and `kernel`
        `(children, parents, Q, R)`, in any float dtype.

    Output shape:
        `(batch, parents, P, R)`, at least float32.

    Raises:
        ValueError: an argument is out of its range, or the shapes do not fit
            together.

    Example:

    >>> import keras
    >>> from keras_capsules import layers
    >>> layer = layers.DigitCapsule(10, 16, routing="uniform")
    >>> tuple(layer(keras.random.normal((2, 1152, 8))).shape)
    (2, 10, 16)

    Reference:
        Sabour, Frosst and Hinton, Dynamic routing between capsules (2017),
        procedure 1 with r = 1; Gu and Tresp, Improving the robustness of capsule
        networks to image affine transformations (2020), section 4.
    """

    def __init__(self, block: int | None = None, **kwargs: Any) -> None:
        super().__init__(iterations=1, block=block, **kwargs)

    # The initial parents are as long as their children, see `DynamicRouting`.
    def kernel_stddev(self, kernel_shape):
        return stddev_for((LENGTH / (1.0 - LENGTH)) ** 0.5, kernel_shape)

    # c_ij = 1 / parents
    def initial_weights(self, inputs):
        return inputs.ones / inputs.parents  # (batch, 1, children)

    # v_j = squash(Σ_i c_ij V_ij)
    def update_parents(self, moments, iteration, inputs):
        return {"parents": squash(moments.sum)}  # (batch, parents, D)

    def get_config(self):
        config = super().get_config()
        for name in ("iterations", "loop", "stop_gradient"):
            del config[name]
        return config
