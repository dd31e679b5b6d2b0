import math
from typing import Any

import keras
from keras import ops

from keras_capsules import validation
from keras_capsules._backend import BatchNormalization, digamma
from keras_capsules.ops import compete
from keras_capsules.ops.norms import dtype_at_least_float32
from keras_capsules.routing.moment_routing import MomentRouting
from keras_capsules.routing.moments import Polynomial


@keras.saving.register_keras_serializable(package="keras_capsules")
class VariationalBayesRouting(MomentRouting):
    """Variational Bayes routing: EM routing with a prior over the Gaussians.

    The prior is a Dirichlet distribution over the mixing proportions of the parents,
    and a Gaussian-Wishart distribution over the mean and the diagonal precision of each
    parent. A parent with few votes stays near its prior, so that no variance collapses.
    The M-step, with `N_j = Σ_i R_ij a_i` and `m0 = 0`:

    - `α_j = α0 + N_j`, `κ_j = κ0 + N_j`, `ν_j = ν0 + N_j`
    - `m_j = Σ_i R_ij a_i V_ij / κ_j`
    - `B_jh = 1 + Σ_i R_ij a_i (V_ijh − m_jh)² + κ0 m_jh²`

    The E-step, with ψ the digamma function:

    - `E ln π_j = ψ(α_j) − ψ(Σ_j α_j)`
    - `E ln |Λ_j| = Σ_d ψ((ν_j − d) / 2) + D ln 2 − Σ_h ln B_jh`, d from 0 to D − 1
    - `ln R_ij = E ln π_j + ½ E ln |Λ_j| − ½ D ln 2π
      − ½ (D / κ_j + ν_j Σ_h (V_ijh − m_jh)² / B_jh)`, up to the constant that makes R
      sum to 1 over the parents that compete for a child

    After the last M-step, activations are computed from the entropy of the Gaussian.
    Activations and poses are batch-normalized, each parent type by itself:

    - `a_j = σ(BatchNorm(−e^(E ln π_j) (½ D ln 2πe − ½ E ln |Λ_j|)))`
    - `pose_j = BatchNorm(m_j)`

    The prior expects a standard deviation of the votes of about 1 / √(D + 1), a quarter
    for 4×4 poses. Votes of variance 1 are assigned so hard from the start that two such
    layers hardly learn. The initial kernel of a layer therefore gives votes a standard
    deviation of 0.1, for poses whose elements have size 1.

    The paper adds β_a − β_u before the batch normalization of activations, which would
    remove such a constant. The `beta` of the batch normalization takes its place.

    Args:
        iterations: how many times the parents are computed, at least 1.
        competition: which parents compete for a child: with `"image"` all parents
            whose receptive fields contain it, at every position; with `"patch"` only
            the parents of one position, as if each position had its own children.
        prior_weight: α0 and κ0, the weight of the priors as a number of children, at
            least 1e-6. ν0 is D + 1.
        momentum: momentum of the moving averages of batch normalization.
        loop: how the graph holds the iterations: `"while"` as one loop, `"unroll"` one
            after the other. The values and gradients are the same.
        stop_gradient: whether the gradient treats the assignments as constants, which
            is faster. By default the gradient flows through every iteration.
        block: how many images are routed at a time. `None` chooses the number, see
            `MomentRouting`. It changes speed and memory, not the result.
        **kwargs: `name` and the other arguments of `keras.layers.Layer`.

    Call arguments:
        poses: poses of the children.
        kernel: the transformation matrices from poses to votes.
        activations: activations of the children, clipped to lie from 0 to 1.
        receptive_fields: the `ops.ReceptiveFields` of the layer, if the children of
            one image are spread over several rows of the batch.
        mask: True for each child, False for padding.
        training: whether batch normalization uses the statistics of the batch or its
            moving averages.

    Input shape:
        `poses` `(batch, children, P, Q)`, `kernel` `(children, parents, Q, R)`
        and `activations` `(batch, children)`, in any float dtype.

    Output shape:
        Poses `(batch, parents, P, R)` and activations `(batch, parents)`, at
        least float32.

    Raises:
        ValueError: an argument is out of its range, activations are missing, or
            the shapes do not fit together.

    Example:

    >>> import keras
    >>> from keras_capsules import layers
    >>> layer = layers.ConvCapsule(16, strides=2, routing="variational_bayes")
    >>> poses = keras.random.normal((2, 8, 8, 4, 4, 4))
    >>> poses, activations = layer((poses, keras.random.uniform((2, 8, 8, 4))))
    >>> tuple(poses.shape), tuple(activations.shape)
    ((2, 3, 3, 16, 4, 4), (2, 3, 3, 16))

    Reference:
        Ribeiro, Leontidis and Kollias, Capsule routing via variational Bayes (2020),
        algorithm 1.
    """

    computes_activations = True
    needs_activations = True
    second_moments = True

    def __init__(
        self,
        iterations: int = 3,
        competition: str = "image",
        prior_weight: float = 1.0,
        momentum: float = 0.9,
        loop: str = "unroll",
        stop_gradient: bool = False,
        block: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(iterations, loop, stop_gradient, block, **kwargs)
        self.competition = validation.check_one_of(
            "competition", competition, ("image", "patch")
        )
        self.prior_weight = validation.check_at_least(
            "prior_weight", prior_weight, 1e-6
        )
        self.momentum = validation.check_momentum("momentum", momentum)
        norm = {"momentum": momentum, "axis": 1}
        self.pose_norm = BatchNormalization(**norm, name="pose_norm")
        self.activation_norm = BatchNormalization(**norm, name="activation_norm")
        self.freeze_sublayers()

    def kernel_stddev(self, kernel_shape):
        return 0.1 * super().kernel_stddev(kernel_shape)

    def build(self, poses_shape, kernel_shape):
        # Normalization does not compute votes: it has the precision of the variables,
        # but at least float32.
        for norm in (self.pose_norm, self.activation_norm):
            norm.dtype_policy = dtype_at_least_float32(self.variable_dtype)
        parents, size = kernel_shape[1], poses_shape[2] * kernel_shape[3]
        self.pose_norm.build((None, parents, size))
        self.activation_norm.build((None, parents))

    # R_ij is the same for all parents that compete for the child.
    def initial_weights(self, inputs):
        activations = inputs.probabilities
        return inputs.receptive_fields.share_evenly(
            activations, inputs.parents, self.competition
        )  # (batch, 1, children)

    # The end of the E-step: R_ij a_i.
    def update_weights(self, scores, inputs):
        fields = inputs.receptive_fields if self.competition == "image" else None
        return compete(scores, fields, inputs.probabilities)

    # The M-step: the posterior of each parent, and the expectations for the E-step.
    def update_parents(self, moments, iteration, inputs):
        size = moments.sum.shape[-1]
        alpha = self.prior_weight + moments.mass  # (batch, parents, 1)
        kappa = alpha
        nu = size + 1.0 + moments.mass
        means = moments.sum / kappa  # (batch, parents, D)
        scales = 1.0 + moments.squares(about=means)
        scales = scales + self.prior_weight * ops.square(means)  # B
        log_share = digamma(alpha) - digamma(ops.sum(alpha, axis=1, keepdims=True))
        log_share = log_share[..., 0]  # E ln π, (batch, parents)
        degrees = ops.arange(size, dtype=means.dtype)
        log_precision = (
            ops.sum(digamma(0.5 * (nu - degrees)) - ops.log(scales), axis=-1)
            + math.log(2.0) * size
        )  # E ln |Λ|
        entropy = 0.5 * (math.log(2.0 * math.pi * math.e) * size - log_precision)
        return {
            "parents": means,
            "activations": -ops.exp(log_share) * entropy,
            "log_share": log_share,
            "log_precision": log_precision,
            "kappa": kappa,
            "precisions": nu / scales,
        }

    # The E-step: ln R_ij, up to the constant that makes R sum to 1.
    def score_coefficients(self, parents):
        size = parents["parents"].shape[-1]
        constant = parents["log_share"] + 0.5 * (
            parents["log_precision"]
            - math.log(2.0 * math.pi) * size
            - size / parents["kappa"][..., 0]
        )
        return Polynomial(
            constant=constant,
            quadratic=-0.5 * parents["precisions"],
            about=parents["parents"],
        )

    def finalize(self, parents, training=None):
        logits = self.activation_norm(parents["activations"], training=training)
        poses = self.pose_norm(parents["parents"], training=training)
        return {"parents": poses, "activations": ops.sigmoid(logits)}

    def get_config(self):
        return {
            **super().get_config(),
            "competition": self.competition,
            "prior_weight": self.prior_weight,
            "momentum": self.momentum,
        }
