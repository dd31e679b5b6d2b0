import math
from typing import Any

import keras
from keras import initializers, ops

from keras_capsules import validation
from keras_capsules._backend import BatchNormalization, mean
from keras_capsules.ops import compete
from keras_capsules.ops.norms import at_least, dtype_at_least_float32
from keras_capsules.routing.moment_routing import MomentRouting
from keras_capsules.routing.moments import Polynomial

# Float32 resolves votes of size 1 to 1e-7. Divisions by this variance stay finite.
LEAST_VARIANCE = 1e-8

# Added in the E-step to the mass of each parent, relative to its expected mass.
# Without it a parent that has lost its children could not be assigned any again.
_ADDED_MASS = 0.1

# For the batch normalization of costs. It is small because before training the costs
# of two classes differ by only about 0.01.
_EPSILON = 1e-4


@keras.saving.register_keras_serializable(package="keras_capsules")
class EMRouting(MomentRouting):
    """EM routing: a Gaussian for each parent is fitted to the votes that it receives.

    The M-step fits the Gaussian of each parent to the votes that are assigned to it.
    The E-step assigns each child to the parents whose Gaussians explain its votes:

    - `R'_ij = R_ij a_i`, `mass_j = Σ_i R'_ij`
    - `μ_jh = Σ_i R'_ij V_ijh / mass_j`
    - `σ²_jh = Σ_i R'_ij (V_ijh − μ_jh)² / mass_j + min_variance`
    - `cost_j = Σ_h (β_u + ln σ_jh) · mass_j`
    - `a_j = sigmoid(β_a − BatchNorm(cost_j))`
    - `R_ij ∝ mass_j Π_h N(V_ijh; μ_jh, σ²_jh)`

    The paper has `a_j = sigmoid(λ_t (β_a − cost_j))`, `λ_t = λ (1 − 0.95^(t+1))`, and
    `R_ij ∝ a_j Π_h N(V_ijh; μ_jh, σ²_jh)`. It leaves open four choices that decide
    whether a network learns and whether its assignments become hard. The defaults
    expect poses whose elements have size 1, as `PoseNormalization` returns them:

    - *Variance of the votes.* With a minimum variance of 5e-4 and votes of variance 1,
      assignments are too hard before training: a parent has only a tenth as many
      children in the third M-step as in the first, variances collapse and training
      stalls. With `agreement="mean"`, the geometric mean of the densities, and a
      minimum variance of 1 the network learns, but each child stays assigned to nearly
      all parents. By default the initial votes have a standard deviation of
      `0.2 √min_variance`, so that the first assignments are nearly uniform. The layer
      learns the spread of its votes, and thereby how hard it assigns.
    - *Normalization of the costs.* With the paper's cost, a trained layer can have all
      its parents active for every image. Batch normalization keeps the activations of
      each parent type around `sigmoid(β_a)`. It needs the whole batch, which is only
      available after the last iteration. The E-step therefore uses the mass of a parent
      instead of its activation: the mass relative to its expected mass (see below),
      plus 0.1. `trace` normalizes the costs of every iteration by the moving averages.
    - *Unit of the mass.* The mass of a parent differs from layer to layer by a factor
      of 10. With `inverse_temperature=None` it is divided by its expected mass: what a
      parent gets if every child has an activation of 0.5 and is assigned to all parents
      equally. With `cost="paper"`, β_a has the same unit, so that one step of an
      optimizer changes all layers equally. A thousandth of the expected mass is added
      to every mass. With a λ of your own or the standardized cost, it is the lower
      bound of the mass instead. A parent without active children therefore still has a
      mean, 0, and a gradient that half precision can represent.
    - *Initial costs.* After routing, the variance of the votes around their parents is
      about 0.85 of their total variance. β_u starts at the value that gives such a
      parent a cost of 0, so that the initial activations are about 0.5.

    `EMRouting(inverse_temperature=0.01, min_variance=5e-4, cost="paper")` uses the
    formulas of the paper.

    Args:
        iterations: how many times the parents are computed, at least 1.
        inverse_temperature: λ, only with `cost="paper"`. `None` divides the mass by its
            expected value, as described above, and sets λ so that λ_t is 1 in the last
            iteration; λ is at most 7, its value for three iterations.
        min_variance: added to every variance, in squared units of a vote; at least
            1e-8, so that divisions in float32 stay finite.
        competition: which parents compete for a child: with `"image"` all parents
            whose receptive fields contain it, at every position; with `"patch"` only
            the parents of one position, as if each position had its own children.
        cost: how activations are computed from costs. `"normalized"` applies batch
            normalization, as above. `"paper"` uses the formula of the paper, with
            activations in the E-step. `"standardized"` also has activations in the
            E-step, and compares the cost of a parent with those of the other parents
            at its position: `sigmoid(λ_t (β_a + (average − cost_j) / deviation))`, with
            λ_t from 1 to `min(iterations, 3)`. The deviation is at least 3 % of the
            size of the costs, and `min_variance` is replaced by 1e-8.
        agreement: how a vote agrees with a parent: `"product"` of the densities of its
            components, or their geometric `"mean"`.
        momentum: momentum of the moving averages of batch normalization. If the
            optimizer averages the weights (`use_ema`), use its `ema_momentum` here, so
            that the moving averages match the averaged weights.
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
        `poses` `(batch, children, P, Q)`, `kernel` `(children, parents, Q, R)` and
        `activations` `(batch, children)`, in any float dtype. The votes are computed in
        that dtype, everything after them in at least float32. β_u and β_a have shape
        `(parents,)`.

    Output shape:
        Poses `(batch, parents, P, R)` and activations `(batch, parents)`, at
        least float32.

    Raises:
        ValueError: an argument is out of its range, activations are missing, or
            the shapes do not fit together.

    Example:

    >>> import keras
    >>> from keras_capsules import routing
    >>> poses = keras.random.normal((2, 72, 4, 4))
    >>> kernel = keras.random.normal((72, 16, 4, 4))
    >>> activations = keras.random.uniform((2, 72))
    >>> poses, activations = routing.EMRouting()(poses, kernel, activations)
    >>> tuple(poses.shape), tuple(activations.shape)
    ((2, 16, 4, 4), (2, 16))

    Reference:
        Hinton, Sabour and Frosst, Matrix capsules with EM routing (2018),
        procedure 1; Ueda and Nakano, Deterministic annealing EM algorithm (1998), for
        the geometric mean; Ribeiro, Leontidis and Kollias, Capsule routing via
        variational Bayes (2020), section 4, for normalized costs.
    """

    computes_activations = True
    needs_activations = True
    second_moments = True
    traced = ("means", "variances")

    def __init__(
        self,
        iterations: int = 3,
        inverse_temperature: float | None = None,
        min_variance: float = 1.0,
        competition: str = "image",
        cost: str = "normalized",
        agreement: str = "product",
        momentum: float = 0.9,
        loop: str = "unroll",
        stop_gradient: bool = False,
        block: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(iterations, loop, stop_gradient, block, **kwargs)
        if inverse_temperature is not None:
            validation.check_positive("inverse_temperature", inverse_temperature)
        self.inverse_temperature = inverse_temperature
        self.min_variance = validation.check_at_least(
            "min_variance", min_variance, LEAST_VARIANCE
        )
        self.competition = validation.check_one_of(
            "competition", competition, ("image", "patch")
        )
        self.cost = validation.check_one_of(
            "cost", cost, ("normalized", "paper", "standardized")
        )
        self.agreement = validation.check_one_of(
            "agreement", agreement, ("product", "mean")
        )
        self.momentum = validation.check_momentum("momentum", momentum)
        if cost != "paper" and inverse_temperature is not None:
            raise ValueError(
                f'Argument `inverse_temperature` must be None with cost="{cost}"; '
                f'cost="paper" takes one. Received: {inverse_temperature}'
            )
        self._relative_mass = cost != "standardized" and inverse_temperature is None
        standardized = cost == "standardized"
        self._variance_floor = LEAST_VARIANCE if standardized else min_variance
        # Initial value, for poses whose elements have size 1.
        self._votes_stddev = 0.2 * min_variance**0.5 if cost == "normalized" else 1.0
        if cost == "normalized":
            # β_a takes the place of the offset of batch normalization.
            self.cost_norm = BatchNormalization(
                axis=1,
                momentum=momentum,
                epsilon=_EPSILON,
                center=False,
                name="cost_norm",
            )
        self.freeze_sublayers()

    def kernel_stddev(self, kernel_shape):
        return self._votes_stddev * super().kernel_stddev(kernel_shape)

    def build(self, poses_shape, kernel_shape):
        parents = kernel_shape[1]
        unit = 0.0
        if self.cost != "standardized":
            variance = 0.85 * self._votes_stddev**2 + self.min_variance
            unit = -0.5 * math.log(variance)
        self.beta_u = self.add_weight(
            name="beta_u", shape=(parents,), initializer=initializers.Constant(unit)
        )
        self.beta_a = self.add_weight(
            name="beta_a", shape=(parents,), initializer="zeros"
        )
        if self.cost == "normalized":
            # Normalization does not compute votes: it has the precision of the
            # variables, but at least float32.
            self.cost_norm.dtype_policy = dtype_at_least_float32(self.variable_dtype)
            self.cost_norm.build((None, parents))

    # Procedure 1, line 2: R_ij is the same for all parents that compete for the child.
    def initial_weights(self, inputs):
        activations = inputs.probabilities
        return inputs.receptive_fields.share_evenly(
            activations, inputs.parents, self.competition
        )

    # The E-step, lines 2 to 4, and line 2 of the M-step: R_ij · a_i.
    def update_weights(self, scores, inputs):
        fields = inputs.receptive_fields if self.competition == "image" else None
        return compete(scores, fields, inputs.probabilities)

    # The M-step, lines 3 to 6: μ, σ² and a of each parent.
    def update_parents(self, moments, iteration, inputs):
        # The expected mass: of children that are half active and assigned uniformly.
        at_random = inputs.receptive_fields.share_evenly(
            inputs.ones[:, 0], inputs.parents, self.competition
        )
        expected = 0.5 * ops.sum(at_random, axis=-1, keepdims=True)  # (batch, 1, 1)
        expected = at_least(expected, 1e-6)  # where all children are masked
        # This bounds the gradient of a parent without children.
        least = 1e-3 * expected
        given = moments.mass + (least if self._relative_mass else 1e-7)
        mass = at_least(given, least)
        unit = 1.0 / mass
        means = moments.sum * unit  # (batch, parents, D)
        variances = moments.squares(about=means) * unit + self._variance_floor
        # Mass that was added to reach the least mass counts as votes of variance 1.
        # Otherwise parents with fewer votes would have smaller variances.
        variances = variances + (mass - given) * unit
        if self._relative_mass:
            mass = mass / expected
        costs = self._costs(variances, mass)  # (batch, parents)
        if self.cost == "normalized":
            # `finalize` normalizes the costs, because it has the whole batch.
            activations, log_priors = -costs, ops.log(mass[..., 0] + _ADDED_MASS)
        else:
            logits = self._logits(costs, mass, expected, iteration)
            activations, log_priors = ops.sigmoid(logits), ops.log_sigmoid(logits)
        return {
            "parents": means,
            "activations": activations,
            "log_priors": log_priors,
            "means": means,
            "variances": variances,
        }

    # The E-step, lines 2 and 3: ln a_j, or ln(mass_j + 0.1), + ln N(V_ij; μ_j, σ²_j).
    def score_coefficients(self, parents):
        variances = parents["variances"]
        # The geometric mean is the D-th root of the product of D densities.
        root = 1.0 / variances.shape[-1] if self.agreement == "mean" else 1.0
        logs = ops.sum(ops.log(variances), axis=-1)
        return Polynomial(
            constant=parents["log_priors"] - 0.5 * root * logs,
            quadratic=-0.5 * root / variances,
            about=parents["means"],
        )

    # Line 6 of the M-step for normalized costs, which need the whole batch.
    def finalize(self, parents, training=None):
        if self.cost != "normalized":
            return parents
        costs = self.cost_norm(parents["activations"], training=training)
        return {**parents, "activations": ops.sigmoid(self.beta_a + costs)}

    def get_config(self):
        return {
            **super().get_config(),
            "inverse_temperature": self.inverse_temperature,
            "min_variance": self.min_variance,
            "competition": self.competition,
            "cost": self.cost,
            "agreement": self.agreement,
            "momentum": self.momentum,
        }

    def _costs(self, variances, mass):
        """Computes Σ_h (β_u + ln σ_jh) · mass_j, (batch, parents)."""
        logs = 0.5 * ops.sum(ops.log(variances), axis=-1)
        return (self.beta_u * variances.shape[-1] + logs) * mass[..., 0]

    def _logits(self, costs, mass, expected, iteration):
        """Computes the logits of the activations, (batch, parents)."""
        if self.cost == "paper":
            return self._inverse_temperature(iteration) * (self.beta_a - costs)
        last = max(self.iterations - 1, 1)
        steepness = 1.0 + (min(self.iterations, 3) - 1.0) * iteration / last
        excess = costs - mean(costs, axis=1)
        variance = mean(ops.square(excess), axis=1)
        # Nearly equal costs differ by rounding errors. Divided by their deviation these
        # would become differences between parents, with unbounded gradients.
        sizes = ops.abs(costs) + mass[..., 0] + 0.1 * expected[..., 0]
        least = 0.03 * mean(sizes, axis=1)
        deviation = ops.sqrt(at_least(variance, ops.square(least)))
        return steepness * (self.beta_a - excess / deviation)

    def _inverse_temperature(self, iteration):
        """Returns λ_t."""
        # With λ_t above 1 parents alternate: a parent with much mass becomes costly and
        # loses it in the next iteration (docs/results.md, five iterations).
        gentle = min(7.0, 1.0 / (1.0 - 0.95**self.iterations))
        return (self.inverse_temperature or gentle) * (1.0 - 0.95 ** (iteration + 1.0))
