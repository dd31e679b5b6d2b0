import math
from typing import Any

import keras
import numpy as np
from keras import initializers, ops

from keras_capsules import arguments
from keras_capsules.ops import (
    ReceptiveFields,
    Votes,
    at_least_float32,
    by_child,
    compete,
)
from keras_capsules.routing.moment_routing import MomentRouting


@keras.saving.register_keras_serializable(package="keras_capsules")
class EMRouting(MomentRouting):
    """Routing by expectation and maximisation: a parent is a Gaussian of votes.

    The M-step fits the Gaussian of each parent to the votes it gets, the E-step
    assigns each child to the parents whose Gaussians explain its votes:

    - `R'_ij = R_ij a_i`, `mass_j = Σ_i R'_ij`
    - `μ_jh = Σ_i R'_ij V_ijh / mass_j`
    - `σ²_jh = Σ_i R'_ij (V_ijh − μ_jh)² / mass_j + min_variance`
    - `cost_j = Σ_h (β_u + ln σ_jh) · mass_j`
    - `a_j = sigmoid(λ_t (β_a − cost_j))`, `λ_t = λ (1 − 0.95^(t+1))`
    - `R_ij ∝ a_j Π_h N(V_ijh; μ_jh, σ²_jh)`

    The paper leaves open what the network needs in order to learn. Three things
    decide it, and the defaults are chosen for children whose poses have elements
    of size 1, as `PoseNormalization` makes them:

    - *How hard children are assigned.* With the product of 16 densities and a
      minimum variance of 5e-4 the third M-step has a tenth of the children that
      the first has, before anything is learned; variances collapse and training
      stalls. With the geometric mean, `agreement="mean"`, and a minimum variance
      near that of the votes, assignments begin soft.
    - *How much mass a parent gets.* It differs from layer to layer by a factor
      of 10. With `inverse_temperature=None` it is measured by what a parent
      gets when every child is half active and chooses at random, and β_a with
      it, so that one step of an optimizer moves every layer alike. A thousandth
      of it is added to every mass: without active children a parent still has
      a mean, 0, and a gradient that half precision can hold.
    - *Where costs begin.* Routing leaves votes of variance 1 a variance of about
      0.85 around their parents. β_u starts where such a parent costs nothing, so
      that every layer begins half active.

    The paper's formulas to the letter are
    `EMRouting(inverse_temperature=0.01, min_variance=5e-4, agreement="product")`.

    Args:
        iterations: how many times the parents are computed, at least 1.
        inverse_temperature: λ. `None` measures mass as described above, and λ is
            7 for up to three iterations, so that λ_t reaches 1 in the third; with
            more it is less, and λ_t reaches 1 in the last.
        min_variance: added to every variance, in squared units of a vote.
        competition: `"image"` where every parent whose field contains a child
            competes for it, at every position; `"patch"` where only the parents
            at one position do.
        cost: `"paper"`, or `"standardized"`: costs are compared with those of
            the other parents at the position, `λ_t (β_a + (average − cost_j) /
            deviation)` with λ_t from 1 to `min(iterations, 3)`, and there is no
            minimum variance. It takes no `inverse_temperature`.
        agreement: what a vote's agreement with a parent is: `"product"` of the
            densities of its components, or their geometric `"mean"`.
        stop_gradient: whether assignments are taken as constants by the gradient.
            Faster; by default it flows through every iteration.
        block: how many images are routed at a time, see `MomentRouting`. It changes
            speed and memory, not the result.
        **kwargs: `name` and the other arguments of `keras.layers.Layer`.

    Call arguments:
        poses: poses of the children.
        kernel: the transformation matrices that make votes of poses.
        activations: activations of the children, from 0 to 1; what lies outside
            counts as the nearest of the two.
        fields: the `ops.ReceptiveFields` of the layer, if the children of one
            image are spread over several rows of the batch.

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
    """

    computes_activations = True
    degree = 2

    def __init__(
        self,
        iterations: int = 3,
        inverse_temperature: float | None = None,
        min_variance: float = 1.0,
        competition: str = "image",
        cost: str = "paper",
        agreement: str = "mean",
        stop_gradient: bool = False,
        block: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(iterations, stop_gradient, block, **kwargs)
        if inverse_temperature is not None:
            arguments.positive("inverse_temperature", inverse_temperature)
        self.inverse_temperature = inverse_temperature
        self._relative_mass = cost == "paper" and inverse_temperature is None
        self.min_variance = arguments.positive("min_variance", min_variance)
        # The standardized cost has no minimum; this keeps a variance of 0 finite.
        self._variance_floor = min_variance if cost == "paper" else 1e-8
        self.competition = arguments.one_of(
            "competition", competition, ("image", "patch")
        )
        self.cost = arguments.one_of("cost", cost, ("paper", "standardized"))
        self.agreement = arguments.one_of("agreement", agreement, ("product", "mean"))
        if cost == "standardized" and inverse_temperature is not None:
            raise ValueError(
                "Argument `inverse_temperature` must be None with "
                f'cost="standardized". Received: {inverse_temperature}'
            )

    def build(self, poses_shape, kernel_shape):
        parents = kernel_shape[1]
        unit = 0.0
        if self.cost == "paper":
            unit = -0.5 * math.log(0.85 + self.min_variance)
        self.beta_u = self.add_weight(
            name="beta_u", shape=(parents,), initializer=initializers.Constant(unit)
        )
        self.beta_a = self.add_weight(
            name="beta_a", shape=(parents,), initializer="zeros"
        )

    def call(self, poses, kernel, activations=None, fields=None):
        a, learned, fields = self._problem(kernel, activations, fields)
        parents = self.route(poses, kernel, (a,), learned, fields)
        shape = (-1, kernel.shape[1], poses.shape[2], kernel.shape[3])
        means, activations = ops.split(parents, [shape[2] * shape[3]], axis=-1)
        return ops.reshape(means, shape), ops.squeeze(activations, -1)

    def assign(self, scores, children, fields):
        # The E-step; the assignments of a child sum to its activation.
        fields = fields if self.competition == "image" else None
        scores = ops.stop_gradient(scores) if self.stop_gradient else scores
        return compete(scores, fields, *children)

    def begin(self, zeros, parents, children, fields):
        return _at_positions(*children, self._random_shares(parents, fields))

    def estimate(self, moments, t, center, learned, fields):
        means, precisions, logits = self._gaussians(moments, t, center, learned, fields)
        parents = ops.concatenate([means, ops.sigmoid(logits)], axis=-1)
        # ln a_j + ln N(V_ij; μ_j, σ²_j) as a polynomial: (V − μ)² is
        # (V − center)² − 2 (μ − center) V + μ² − center².
        shift = means - center
        spread = shift * (means + center) * precisions
        constant = ops.sum(ops.log(precisions) - spread, -1, keepdims=True)
        if self.agreement == "mean":
            constant, precisions = (x / means.shape[-1] for x in (constant, precisions))
        constant = 0.5 * constant + ops.log_sigmoid(logits)
        return parents, (constant, shift * precisions, -0.5 * precisions)

    def trace(
        self,
        poses: Any,
        kernel: Any,
        activations: Any = None,
        fields: ReceptiveFields | None = None,
    ) -> dict:
        """What happens in each iteration, to look at; it holds all votes.

        Args:
            poses: as for calling the routing.
            kernel: as for calling the routing.
            activations: as for calling the routing.
            fields: as for calling the routing.

        Returns:
            A dict of tensors, the iterations first: `assignments`, `weights`
            (assignments times activations of the children) and `distances` (of
            each vote from the mean of the parent)
            `(iterations, batch, parents, children)`; `means` and `variances`
            `(iterations, batch, parents, P·R)`; `activations`
            `(iterations, batch, parents)`.
        """
        if not self.built:
            self.build(poses.shape, kernel.shape)
        a, learned, fields = self._problem(kernel, activations, fields)
        matrices = by_child(poses, kernel)
        first = self._begin(poses, matrices, (a,), fields)
        votes = Votes(poses, matrices, first, self.degree)
        scores, steps = ops.zeros_like(votes.first), []
        for t in range(self.iterations):
            assignments = self.assign(scores, (ops.ones_like(a),), fields)
            weights = assignments * ops.expand_dims(a, 1)
            at = votes.moments(weights), t, votes.center, learned, fields
            means, precisions, logits = self._gaussians(*at)
            from_means = votes.powers[0] - ops.expand_dims(means, 2)
            steps.append(
                {
                    "assignments": assignments,
                    "weights": weights,
                    "distances": ops.sqrt(ops.sum(ops.square(from_means), axis=-1)),
                    "means": means,
                    "variances": 1.0 / precisions,
                    "activations": ops.squeeze(ops.sigmoid(logits), -1),
                }
            )
            _, coefficients = self.estimate(*at)
            scores = votes.scores(coefficients)
        return {name: ops.stack([step[name] for step in steps]) for name in steps[0]}

    def compute_output_shape(
        self, poses_shape, kernel_shape, activations_shape=None, fields_shape=None
    ):
        batch, parents = poses_shape[0], kernel_shape[1]
        return (batch, parents, poses_shape[2], kernel_shape[3]), (batch, parents)

    def get_config(self):
        return {
            **super().get_config(),
            "inverse_temperature": self.inverse_temperature,
            "min_variance": self.min_variance,
            "competition": self.competition,
            "cost": self.cost,
            "agreement": self.agreement,
        }

    def _problem(self, kernel, activations, fields):
        """The activations, what is learned, and the fields."""
        if activations is None:
            raise ValueError("Argument `activations` is missing: EM routing needs it.")
        activations = ops.clip(at_least_float32(activations), 0.0, 1.0)
        betas = (self.beta_u, self.beta_a)
        learned = tuple(
            ops.cast(ops.expand_dims(beta, -1), activations.dtype) for beta in betas
        )  # (parents, 1)
        return activations, learned, fields or ReceptiveFields.whole(kernel.shape[0])

    def _gaussians(self, moments, t, center, learned, fields):
        """The M-step: μ and 1/σ² (batch, parents, P·R), logits (…, 1)."""
        mass, first, second = moments
        # What a parent gets if every child is half active and chooses at random.
        shares = self._random_shares(mass.shape[1], fields)
        unit_mass = 0.5 * np.sum(shares, axis=-1)[:, None, None]
        # Where a parent gets nothing, this bounds the gradient.
        least = 1e-3 * unit_mass if self._relative_mass else 1e-7 + 0.0 * unit_mass
        least = _at_positions(ops.ones_like(mass), least)
        total = mass + least
        unit, lack = 1.0 / total, least / total
        means = first * unit
        # Σ_i w_i (V_i − μ)²; a sum of squares but for rounding.
        shift = means - center
        excess = shift * (shift + lack * (means + center))
        variances = ops.relu(second * unit - excess)
        precisions = 1.0 / (variances + self._variance_floor)
        if self._relative_mass:
            total = _at_positions(total, 1.0 / unit_mass)
        return means, precisions, self._logits(precisions, total, t, learned)

    def _random_shares(self, parents, fields):
        """The share of each child that a parent gets, (positions, children)."""
        sharing = fields.sharing if self.competition == "image" else 1
        return ~fields.padded / (parents * sharing)

    def _logits(self, precisions, mass, t, learned):
        """What the sigmoid makes activations of, (batch, parents, 1)."""
        beta_u, beta_a = learned
        logs = -0.5 * ops.sum(ops.log(precisions), axis=-1, keepdims=True)
        costs = (beta_u * precisions.shape[-1] + logs) * mass
        if self.cost == "standardized":
            steepness = np.linspace(1.0, min(self.iterations, 3), self.iterations)[t]
            excess = costs - ops.mean(costs, axis=1, keepdims=True)
            variance = ops.mean(ops.square(excess), axis=1, keepdims=True)
            return steepness * (beta_a - excess / ops.sqrt(variance + 1e-14))
        # Beyond λ_t = 1 parents take turns: what has mass becomes costly and loses it
        # (docs/results.md, five iterations).
        gentle = min(7.0, 1.0 / (1.0 - 0.95**self.iterations))
        inverse_temperature = self.inverse_temperature or gentle
        return inverse_temperature * (1.0 - 0.95 ** (t + 1)) * (beta_a - costs)


def _at_positions(x, factors):
    """Multiplies the rows of each position by the factors of that position."""
    rows = ops.reshape(x, (-1, len(factors), *x.shape[1:]))
    factors = ops.convert_to_tensor(factors, x.dtype)
    return ops.reshape(rows * factors, (-1, *x.shape[1:]))
