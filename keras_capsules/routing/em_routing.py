import math
from typing import Any

import keras
from keras import initializers, ops

from keras_capsules import validation
from keras_capsules._backend import BatchNormalization, mean
from keras_capsules.ops import compete
from keras_capsules.ops.norms import at_least
from keras_capsules.routing.moment_routing import MomentRouting
from keras_capsules.routing.moments import Polynomial

# Of votes of size 1, whose last digit is 1e-7: what divides by it stays finite.
LEAST_VARIANCE = 1e-8

# Added in the E-step to the mass of each parent, measured by what it can expect.
# Without it a parent that has lost its children can't win them back.
_ADDED_MASS = 0.1

# Of normalized costs: before training those of two classes differ by a hundredth.
_EPSILON = 1e-4


@keras.saving.register_keras_serializable(package="keras_capsules")
class EMRouting(MomentRouting):
    """EM routing: each parent fits a Gaussian to the votes that it receives.

    The M-step fits the Gaussian of each parent to the votes it gets, the E-step
    assigns each child to the parents whose Gaussians explain its votes:

    - `R'_ij = R_ij a_i`, `mass_j = Σ_i R'_ij`
    - `μ_jh = Σ_i R'_ij V_ijh / mass_j`
    - `σ²_jh = Σ_i R'_ij (V_ijh − μ_jh)² / mass_j + min_variance`
    - `cost_j = Σ_h (β_u + ln σ_jh) · mass_j`
    - `a_j = sigmoid(β_a − BatchNorm(cost_j))`
    - `R_ij ∝ mass_j Π_h N(V_ijh; μ_jh, σ²_jh)`

    The paper has `a_j = sigmoid(λ_t (β_a − cost_j))`, `λ_t = λ (1 − 0.95^(t+1))`, and
    `R_ij ∝ a_j Π_h N(V_ijh; μ_jh, σ²_jh)`. It leaves open what the network needs in
    order to learn. Four things decide whether it learns and whether children choose;
    the defaults are for children whose poses have elements of size 1, as
    `PoseNormalization` makes them:

    - *How hard children are assigned.* With a minimum variance of 5e-4 and votes of
      variance 1 the third M-step has a tenth of the children that the first has,
      before anything is learned; variances collapse and training stalls. With the
      geometric mean of the densities, `agreement="mean"`, and a minimum variance of 1
      it trains, but a child never chooses: it stays divided among nearly all parents.
      By default votes begin small, with a deviation of a fifth of the root of
      `min_variance`, so that children begin undecided. How far votes spread, and so
      how hard children choose, is learned.
    - *How activations stay apart.* With the paper's cost a trained layer can have all
      its parents active for every image. Batch normalization keeps the activations
      of each type of parent around the sigmoid of β_a. Activations are known after the
      last iteration, when the whole batch is. So the E-step takes the masses in their
      place, each measured by what the parent can expect, plus a tenth. A trace
      normalizes the costs of every iteration by the moving averages.
    - *How much mass a parent gets.* It differs from layer to layer by a factor
      of 10. With `inverse_temperature=None` it is measured by what a parent
      gets when every child is half active and chooses at random, and β_a with
      it, so that one step of an optimizer moves every layer alike. A thousandth
      of it is added to every mass, and is the least mass with a λ of one's own or
      the standardized cost: without active children a parent still has a mean, 0,
      and a gradient that half precision can hold.
    - *Where costs begin.* Routing leaves votes about 0.85 of their variance around
      their parents. β_u starts where such a parent costs nothing, so that every
      layer begins half active.

    The paper's formulas to the letter are
    `EMRouting(inverse_temperature=0.01, min_variance=5e-4, cost="paper")`.

    Args:
        iterations: how many times the parents are computed, at least 1.
        inverse_temperature: λ, of `cost="paper"` alone. `None` measures mass as
            described above and lets λ_t end at 1; λ is at most 7, its value for three
            iterations.
        min_variance: added to every variance, in squared units of a vote; at least
            1e-8, where float32 still divides by it.
        competition: `"image"` where every parent whose field contains a child
            competes for it, at every position; `"patch"` where only the parents
            at one position do.
        cost: how costs make activations. `"normalized"`, by batch normalization, as
            above; `"paper"`, without, and with activations in the E-step; or
            `"standardized"`, with those too: costs are compared with those of the other
            parents at the position, `λ_t (β_a + (average − cost_j) / deviation)` with
            λ_t from 1 to `min(iterations, 3)`, and the minimum variance is 1e-8. Costs
            that differ by less than 3 % are divided by 3 % of them instead.
        agreement: what a vote's agreement with a parent is: `"product"` of the
            densities of its components, or their geometric `"mean"`.
        momentum: of the moving averages of batch normalization. Where the optimizer
            averages the weights (`use_ema`) it must be its `ema_momentum`: averages
            over other steps do not fit the weights that are tested.
        loop: `"while"` makes the iterations one loop in the graph, `"unroll"` writes
            every iteration out. The values and gradients are the same.
        stop_gradient: whether the gradient takes assignments as constants. Faster; by
            default it flows through every iteration.
        block: how many images are routed at a time, see `MomentRouting`. It changes
            speed and memory, not the result.
        **kwargs: `name` and the other arguments of `keras.layers.Layer`.

    Call arguments:
        poses: poses of the children.
        kernel: the transformation matrices that make votes of poses.
        activations: activations of the children, from 0 to 1; what lies outside
            counts as the nearest of the two.
        receptive_fields: the `ops.ReceptiveFields` of the layer, if the children of
            one image are spread over several rows of the batch.
        mask: True for each child, False for padding.
        training: whether batch normalization uses the batch, or its moving averages.

    Input shape:
        `poses` `(batch, children, P, Q)`, `kernel` `(children, parents, Q, R)`
        and `activations` `(batch, children)`, in any float dtype. The votes are
        computed in that dtype, everything after them in at least float32.

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
        procedure 1. The geometric mean is deterministic annealing of the
        E-step: Ueda and Nakano, Deterministic annealing EM algorithm (1998).
        Normalized costs: Ribeiro, Leontidis and Kollias, Capsule routing via
        variational Bayes (2020), section 4.
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
        # Where poses have elements of size 1, before anything is learned.
        self._votes_stddev = 0.2 * min_variance**0.5 if cost == "normalized" else 1.0
        if cost == "normalized":
            # β_a is what batch normalization would add.
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
            # No product of votes: it stays in the variables' precision.
            self.cost_norm.dtype_policy = self.variable_dtype
            self.cost_norm.build((None, parents))

    # Procedure 1, line 2: R_ij is the same for all parents that see the child.
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
        # What a parent gets if every child is half active and chooses at random.
        at_random = inputs.receptive_fields.share_evenly(
            inputs.ones[:, 0], inputs.parents, self.competition
        )
        expected = 0.5 * ops.sum(at_random, axis=-1, keepdims=True)  # (batch, 1, 1)
        expected = at_least(expected, 1e-6)  # where all children are masked
        # Where a parent gets nothing, this bounds the gradient.
        least = 1e-3 * expected
        given = moments.mass + (least if self._relative_mass else 1e-7)
        mass = at_least(given, least)
        unit = 1.0 / mass
        means = moments.sum * unit  # (batch, parents, D)
        variances = moments.squares(about=means) * unit + self._variance_floor
        # What was missing of the least counts as votes of variance 1, else the fewer
        # votes a parent gets the smaller its variance would be.
        variances = variances + (mass - given) * unit
        if self._relative_mass:
            mass = mass / expected
        costs = self._costs(variances, mass)  # (batch, parents)
        if self.cost == "normalized":
            # Costs are normalized when all images are known.
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
        # The geometric mean is the root of as many densities as a vote has elements.
        root = 1.0 / variances.shape[-1] if self.agreement == "mean" else 1.0
        logs = ops.sum(ops.log(variances), axis=-1)
        return Polynomial(
            constant=parents["log_priors"] - 0.5 * root * logs,
            quadratic=-0.5 * root / variances,
            about=parents["means"],
        )

    # What the M-step leaves open: the costs of all images, normalized together.
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
        """Σ_h (β_u + ln σ_jh) · mass_j, (batch, parents)."""
        logs = 0.5 * ops.sum(ops.log(variances), axis=-1)
        return (self.beta_u * variances.shape[-1] + logs) * mass[..., 0]

    def _logits(self, costs, mass, expected, iteration):
        """What the sigmoid makes activations of, (batch, parents)."""
        if self.cost == "paper":
            return self._inverse_temperature(iteration) * (self.beta_a - costs)
        last = max(self.iterations - 1, 1)
        steepness = 1.0 + (min(self.iterations, 3) - 1.0) * iteration / last
        excess = costs - mean(costs, axis=1)
        variance = mean(ops.square(excess), axis=1)
        # Costs that are nearly equal differ by rounding: divided by their deviation
        # they would tell parents apart, with endless gradients.
        sizes = ops.abs(costs) + mass[..., 0] + 0.1 * expected[..., 0]
        least = 0.03 * mean(sizes, axis=1)
        deviation = ops.sqrt(at_least(variance, ops.square(least)))
        return steepness * (self.beta_a - excess / deviation)

    def _inverse_temperature(self, iteration):
        """λ_t"""
        # Beyond λ_t = 1 parents take turns: what has mass becomes costly and loses it
        # (docs/results.md, five iterations).
        gentle = min(7.0, 1.0 / (1.0 - 0.95**self.iterations))
        return (self.inverse_temperature or gentle) * (1.0 - 0.95 ** (iteration + 1.0))
