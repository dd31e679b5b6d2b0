import math
from typing import Any

import keras

from keras_capsules.ops import compete, exponential_squash
from keras_capsules.routing._kernels import LENGTH, stddev_for
from keras_capsules.routing.moment_routing import MomentRouting
from keras_capsules.routing.moments import Polynomial


@keras.saving.register_keras_serializable(package="keras_capsules")
class SelfAttentionRouting(MomentRouting):
    """Self-attention routing: couplings come from the agreement among the votes.

    There are no iterations. A child is coupled most strongly to the parent for which
    its vote is most similar to the votes of all children. A learned prior is added to
    the couplings:

    - `c_ij = softmax_j(V_ij · Σ_k V_kj / √D) + b_ij`, with D = P · R elements of a pose

    - `v_j = squash(Σ_i c_ij V_ij)`, with `squash(s) = (1 − e^(−|s|)) s / |s|`

    The prior `b` starts at zero. The activation of a parent is the length of its pose.

    Args:
        loop: see `MomentRouting`. The sum over all votes counts as an iteration.
        stop_gradient: whether the gradient treats the softmax as a constant. False by
            default.
        block: how many images are routed at a time. `None` chooses the number, see
            `MomentRouting`. It changes speed and memory, not the result.
        **kwargs: `name` and the other arguments of `keras.layers.Layer`.

    Call arguments:
        poses: poses of the children.
        kernel: the transformation matrices from poses to votes.
        activations: activations of the children. Not used: the length of a pose is
            the activation of the child.
        receptive_fields: the `ops.ReceptiveFields` of the layer. Each field is routed
            by itself; all fields share the prior.
        mask: True for each child, False for padding.

    Input shape:
        `poses` `(batch, children, P, Q)` and `kernel`
        `(children, parents, Q, R)`, in any float dtype. The prior has shape
        `(parents, children)`, or `(parents, 1)` if the children share one matrix.

    Output shape:
        `(batch, parents, P, R)`, at least float32.

    Raises:
        ValueError: an argument is out of its range, or the shapes do not fit
            together.

    Example:

    >>> import keras
    >>> from keras_capsules import layers
    >>> layer = layers.DigitCapsule(10, 16, routing="self_attention")
    >>> tuple(layer(keras.random.normal((2, 16, 8))).shape)
    (2, 10, 16)

    Reference:
        Mazzia, Salvetti and Chiaberge, Efficient-CapsNet: capsule network with
        self-attention routing (2021), equations 2 to 5.
    """

    learns_for_each_child = True

    def __init__(
        self,
        loop: str = "unroll",
        stop_gradient: bool = False,
        block: int | None = None,
        **kwargs: Any,
    ) -> None:
        # The first of the two iterations only computes the sum over all children.
        super().__init__(2, loop, stop_gradient, block, **kwargs)

    # The initial parents are about as long as their children.
    def kernel_stddev(self, kernel_shape):
        _, parents, _, columns = kernel_shape
        norm = -math.log(1.0 - LENGTH)  # from |squash(s)| = 1 − e^(−|s|)
        # Attention makes s_j longer than the mean of its votes, s, by
        # s (parents · s)² / columns^1.5.
        growth = 1.0 + (parents * norm) ** 2 / columns**1.5
        return stddev_for(norm / growth ** (1 / 3), kernel_shape)

    def build(self, poses_shape, kernel_shape):
        children, parents, _, _ = kernel_shape
        # Shared by all children if their number may vary.
        self.prior = self.add_weight(
            name="prior", shape=(parents, children or 1), initializer="zeros"
        )

    # Σ_k V_kj: every vote counts once.
    def initial_weights(self, inputs):
        return inputs.ones  # (batch, 1, children)

    # c_ij = softmax_j(…) + b_ij
    def update_weights(self, scores, inputs):
        return compete(scores) + self.prior  # (batch, parents, children)

    # v_j = squash(Σ_i c_ij V_ij)
    def update_parents(self, moments, iteration, inputs):
        total = moments.sum  # (batch, parents, D)
        return {"parents": exponential_squash(total), "total": total}

    # V_ij · Σ_k V_kj / √D
    def score_coefficients(self, parents):
        total = parents["total"]
        return Polynomial(linear=total / math.sqrt(total.shape[-1]))

    def get_config(self):
        config = super().get_config()
        del config["iterations"]
        return config
