from typing import Any

import keras
import numpy as np
from keras import ops

from keras_capsules import validation
from keras_capsules._backend import matmul
from keras_capsules.ops import compete
from keras_capsules.ops.norms import at_least
from keras_capsules.routing.moment_routing import MomentRouting
from keras_capsules.routing.moments import Polynomial


@keras.saving.register_keras_serializable(package="keras_capsules")
class GenerativeRouting(MomentRouting):
    """Heinsen routing: each parent is a Gaussian that generates votes.

    Like EM routing, it fits a Gaussian to the votes for each parent. A parent is active
    if the benefit of the children that it uses exceeds the cost of the children that it
    ignores. Each pair of child and parent has a learned benefit, a learned cost and a
    learned bias of its vote. With activations `a` and their logits `l`, `a = σ(l)`:

    - E-step: `R_ij = softmax_j(ln a_j + ln N(V_ij; μ_j, σ²_j))`, at first the same
      for all parents
    - D-step: `used_ij = a_i R_ij`, `ignored_ij = a_i (1 − R_ij)`
    - M-step: `l_j = Σ_i (β^use_ij used_ij − β^ign_ij ignored_ij)`,
      `μ_j = Σ_i used_ij V_ij / Σ_i used_ij`,
      `σ²_j = Σ_i used_ij (V_ij − μ_j)² / Σ_i used_ij + min_variance`

    The votes are `V_ij = u_i W_ij + B_ij`. `B` and both β start at zero. The
    denominators are at least a thousandth of the mass that a parent gets if all
    children are active and divided equally, which bounds the gradients.

    Args:
        iterations: how many times the parents are computed, at least 1.
        min_variance: added to every variance, in squared units of a vote; at least
            1e-8, so that divisions in float32 stay finite. With the default, the first
            assignments of votes of variance 1 are soft. The author's code has 1e-5,
            with which two layers learned more slowly.
        loop: how the graph holds the iterations: `"while"` as one loop, `"unroll"` one
            after the other. The values and gradients are the same.
        stop_gradient: whether the gradient treats `R` as a constant, which is faster.
            By default the gradient flows through every iteration.
        block: how many images are routed at a time. `None` chooses the number, see
            `MomentRouting`. It changes speed and memory, not the result.
        **kwargs: `name` and the other arguments of `keras.layers.Layer`.

    Call arguments:
        poses: poses of the children.
        kernel: the transformation matrices from poses to votes.
        activations: activations of the children, clipped to lie from 0 to 1.
        receptive_fields: the `ops.ReceptiveFields` of the layer. Each field is routed
            by itself; all fields share the weights.
        mask: True for each child, False for padding.

    Input shape:
        `poses` `(batch, children, P, Q)`, `kernel` `(children, parents, Q, R)`
        and `activations` `(batch, children)`, in any float dtype. The vote biases have
        shape `(children, parents, P, R)`, benefits and costs `(children, parents)`,
        with one child if the children share one matrix.

    Output shape:
        Poses `(batch, parents, P, R)` and activations `(batch, parents)`, at
        least float32.

    Raises:
        ValueError: an argument is out of its range, activations are missing, or
            the shapes do not fit together.

    Example:

    >>> import keras
    >>> from keras_capsules import layers
    >>> layer = layers.DigitCapsule(10, 16, routing="generative")
    >>> poses, activations = layer(keras.random.normal((2, 72, 8)))
    >>> tuple(poses.shape), tuple(activations.shape)
    ((2, 10, 16), (2, 10))

    Reference:
        Heinsen, An algorithm for routing capsules in all domains (2019), algorithm 1.
    """

    computes_activations = True
    learns_for_each_child = True
    needs_activations = True
    second_moments = True

    def __init__(
        self,
        iterations: int = 3,
        min_variance: float = 1.0,
        loop: str = "unroll",
        stop_gradient: bool = False,
        block: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(iterations, loop, stop_gradient, block, **kwargs)
        self.min_variance = validation.check_at_least(
            "min_variance", min_variance, 1e-8
        )

    def build(self, poses_shape, kernel_shape):
        children, parents, _, columns = kernel_shape
        shape = children or 1, parents
        self.vote_bias = self.add_weight(
            name="vote_bias",
            shape=(*shape, poses_shape[2], columns),
            initializer="zeros",
        )
        self.beta_use = self.add_weight(
            name="beta_use", shape=shape, initializer="zeros"
        )
        self.beta_ignore = self.add_weight(
            name="beta_ignore", shape=shape, initializer="zeros"
        )

    # R_ij is the same for all parents.
    def initial_weights(self, inputs):
        activations = inputs.probabilities
        return ops.expand_dims(activations, 1) / inputs.parents  # (batch, 1, children)

    # The E-step and the D-step: a_i R_ij.
    def update_weights(self, scores, inputs):
        return compete(scores, amounts=inputs.probabilities)

    # The M-step.
    def update_parents(self, moments, iteration, inputs):
        mass = at_least(moments.mass, inputs.least_mass)  # (batch, parents, 1)
        means = moments.sum / mass  # (batch, parents, D)
        variances = moments.squares(about=means) / mass + self.min_variance
        logits = self._benefit(moments.sum) - self._cost(inputs)  # (batch, parents)
        return {
            "parents": means,
            "activations": ops.sigmoid(logits),
            "logits": logits,
            "variances": variances,
        }

    # ln a_j + ln N(V_ij; μ_j, σ²_j)
    def score_coefficients(self, parents):
        # The last two columns of a vote are not part of the pose, see `_extended`.
        of_votes = np.ones((self.vote_bias.shape[2], self.vote_bias.shape[3] + 2))
        of_votes[:, -2:] = 0.0
        of_votes = ops.convert_to_tensor(of_votes.ravel(), parents["variances"].dtype)
        variances = parents["variances"]
        logs = ops.sum(of_votes * ops.log(variances), axis=-1)
        return Polynomial(
            constant=ops.log_sigmoid(parents["logits"]) - 0.5 * logs,
            quadratic=-0.5 * of_votes / variances,
            about=parents["parents"],
        )

    def get_config(self):
        return {**super().get_config(), "min_variance": self.min_variance}

    # The moments are sums over votes only. To add up the benefits as well, votes get
    # two more columns, whose first elements sum to β^use_ij + β^ign_ij:
    # Σ_i (β^use_ij used_ij − β^ign_ij ignored_ij)
    #   = Σ_i (β^use_ij + β^ign_ij) used_ij − Σ_i β^ign_ij a_i.
    # The two sums nearly cancel if most children are used. The second column therefore
    # holds the error of rounding the first to half precision.

    def _extended(self, poses, kernel):
        children, rows, _ = ops.shape(poses)[1:]
        # [u_i | 1] · [W_ij; B_ij], where 1 is the identity: B_ij has P rows.
        ones = ops.zeros_like(poses[..., :1]) + ops.eye(rows, dtype=poses.dtype)
        worth = self.beta_use + self.beta_ignore
        rounded = ops.cast(ops.cast(worth, kernel.dtype), worth.dtype)
        worth = ops.stack([rounded, worth - rounded], axis=-1)[:, :, None]
        worth = ops.pad(worth, ((0, 0), (0, 0), (0, rows - 1), (0, 0)))
        bias = ops.concatenate([self.vote_bias, worth], axis=-1)
        bias = ops.cast(bias, kernel.dtype)
        bias = ops.broadcast_to(bias, (children, *bias.shape[1:]))
        kernel = ops.pad(kernel, ((0, 0), (0, 0), (0, 0), (0, 2)))
        return (
            ops.concatenate([poses, ones], axis=-1),  # (batch, children, P, Q + P)
            ops.concatenate(
                [kernel, bias], axis=2
            ),  # (children, parents, Q + P, R + 2)
        )

    def _benefit(self, total):
        columns = self.vote_bias.shape[3]
        return total[..., columns] + total[..., columns + 1]

    def _cost(self, inputs):
        activations = inputs.probabilities
        if self.beta_ignore.shape[0] == 1:
            activations = ops.sum(activations, axis=-1, keepdims=True)
        return matmul(activations, ops.convert_to_tensor(self.beta_ignore))

    def _as_matrices(self, x, inputs, kernel):
        return super()._as_matrices(x, inputs, kernel)[..., :-2]
