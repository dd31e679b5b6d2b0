import math
from typing import Any

import keras
from keras import ops

from keras_capsules import validation
from keras_capsules._backend import mean
from keras_capsules.ops import compete
from keras_capsules.routing.moment_routing import MomentRouting
from keras_capsules.routing.moments import Polynomial


@keras.saving.register_keras_serializable(package="keras_capsules")
class InvertedAttentionRouting(MomentRouting):
    """Inverted dot-product attention routing: parents compete for each child.

    The pose of a parent is the normalized sum of the votes for it, weighted by their
    couplings. A child is coupled more strongly to parents whose poses are similar to
    its votes:

    - `p_j = LayerNorm(Σ_i r_ij V_ij)`, with a learned gain and a learned bias
    - `r_ij = softmax_j(V_ij · p_j / √D)`, with D = P · R elements of a pose

    The first couplings are `r_ij = 1 / parents`. Unlike in dynamic routing, scores are
    not added up over the iterations and poses are not squashed. The activation of a
    parent has to be learned from its pose, for example by one `keras.layers.Dense(1)`
    for all classes.

    Args:
        iterations: how many times the parents are computed, at least 1.
        epsilon: added to the variance of a pose when it is normalized; at least 1e-12.
        loop: how the graph holds the iterations: `"while"` as one loop, `"unroll"` one
            after the other. The values and gradients are the same.
        stop_gradient: whether the gradient treats the scores as constants, which is
            faster. By default the gradient flows through every iteration.
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
        `(children, parents, Q, R)`, in any float dtype. Gain and bias have shape
        `(P · R,)`.

    Output shape:
        `(batch, parents, P, R)`, at least float32.

    Raises:
        ValueError: an argument is out of its range, or the shapes do not fit
            together.

    Example:

    >>> import keras
    >>> from keras_capsules import layers
    >>> layer = layers.DigitCapsule(10, 16, routing="inverted_attention")
    >>> tuple(layer(keras.random.normal((2, 72, 8))).shape)
    (2, 10, 16)

    Reference:
        Tsai, Srivastava, Goh and Salakhutdinov, Capsules with inverted dot-product
        attention routing (2020), procedure 1.
    """

    length_is_activation = False

    def __init__(
        self,
        iterations: int = 2,
        epsilon: float = 1e-5,
        loop: str = "unroll",
        stop_gradient: bool = False,
        block: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(iterations, loop, stop_gradient, block, **kwargs)
        self.epsilon = validation.check_at_least("epsilon", epsilon, 1e-12)

    def build(self, poses_shape, kernel_shape):
        size = poses_shape[2] * kernel_shape[3]
        self.gain = self.add_weight(name="gain", shape=(size,), initializer="ones")
        self.bias = self.add_weight(name="bias", shape=(size,), initializer="zeros")

    def initial_weights(self, inputs):
        return inputs.ones / inputs.parents  # (batch, 1, children)

    # r_ij = softmax_j(…)
    def update_weights(self, scores, inputs):
        return compete(scores)  # (batch, parents, children)

    # p_j = LayerNorm(Σ_i r_ij V_ij)
    def update_parents(self, moments, iteration, inputs):
        total = moments.sum  # (batch, parents, D)
        centered = total - mean(total, axis=-1)
        variance = mean(ops.square(centered), axis=-1)
        normalized = centered / ops.sqrt(variance + self.epsilon)
        return {"parents": normalized * self.gain + self.bias}

    # V_ij · p_j / √D
    def score_coefficients(self, parents):
        poses = parents["parents"]
        return Polynomial(linear=poses / math.sqrt(poses.shape[-1]))

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}
