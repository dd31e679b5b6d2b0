"""Sums over votes that a `MomentRouting` uses, and scores of votes."""

from typing import Any, NamedTuple

from keras import ops


class Moments(NamedTuple):
    """Sums over the votes that each parent receives, weighted by `w_ij`.

    Attributes:
        mass: `Σ_i w_ij`, `(batch, parents, 1)`.
        deviations: `Σ_i w_ij (V_ij − center_j)`, `(batch, parents, D)`.
        squared_deviations: `Σ_i w_ij (V_ij − center_j)²`, `(batch, parents, D)`; `None`
            without second moments.
        center: the point that votes are measured from, `(batch, parents, D)`, or 0.0.
    """

    mass: Any
    deviations: Any
    squared_deviations: Any
    center: Any

    @property
    def sum(self) -> Any:
        """The weighted sum of votes, `Σ_i w_ij V_ij`, `(batch, parents, D)`."""
        if isinstance(self.center, float):
            return self.deviations
        return self.deviations + self.mass * self.center

    def squares(self, about: Any) -> Any:
        """Computes `Σ_i w_ij (V_ij − about_j)²`, at least 0.

        If `about` is near the mean of the votes, the result is as exact as the votes,
        however far from zero they are.

        Args:
            about: a pose for each parent, `(batch, parents, D)`.

        Returns:
            `(batch, parents, D)`.

        Raises:
            ValueError: the routing has no second moments.
        """
        if self.squared_deviations is None:
            raise ValueError(
                "`moments.squares` needs a routing whose attribute `second_moments` is "
                "True. Received: second_moments=False"
            )
        shift = about - self.center
        change = shift * (self.mass * shift - 2.0 * self.deviations)
        return ops.relu(self.squared_deviations + change)


class Polynomial(NamedTuple):
    """The scores of votes for each parent, as a polynomial of the vote.

    `score_ij = constant_j + Σ_h (linear_jh U_ijh + quadratic_jh U_ijh²)`, where
    `U_ij = V_ij − about_j`. A pose has D = P · R elements. Each coefficient is 0 by
    default, and may have any shape that broadcasts to the one below.

    Attributes:
        constant: the constant coefficients, `(batch, parents)`.
        linear: the linear coefficients, `(batch, parents, D)`.
        quadratic: the quadratic coefficients, `(batch, parents, D)`. They need a
            routing with `second_moments = True`.
        about: the point that votes are measured from, `(batch, parents, D)`.

    Example:

    >>> import keras
    >>> from keras_capsules import routing
    >>> parents = keras.ops.ones((2, 10, 16))
    >>> routing.Polynomial(linear=parents).quadratic
    0.0

    """

    constant: Any = 0.0
    linear: Any = 0.0
    quadratic: Any = 0.0
    about: Any = 0.0

    def is_about(self, center: Any) -> bool:
        """Whether `about` and `center` are the same float."""
        floats = isinstance(self.about, float) and isinstance(center, float)
        return floats and self.about == center

    def recentered(self, center: Any) -> tuple:
        """Returns the constant, linear and quadratic coefficients of `V − center`.

        `about` or `center` must have the shape `(batch, parents, D)`, unless both are
        the same float.

        Args:
            center: `(batch, parents, D)`, or a float.

        Returns:
            The three coefficients: tensors, or numbers if they were given as numbers.
        """
        if self.is_about(center):
            return self[:3]
        shift = self.about - center
        slope = self.quadratic * shift - self.linear
        constant = self.constant + ops.sum(shift * slope, axis=-1)
        return constant, -2.0 * slope - self.linear, self.quadratic
