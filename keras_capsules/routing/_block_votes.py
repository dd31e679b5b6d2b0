"""The votes of a block of images, and weighted sums over them."""

from typing import Any

from keras import ops

from keras_capsules._backend import matmul
from keras_capsules.ops import at_least_float32
from keras_capsules.ops.votes import flat_by_child, poses_by_child, votes_by_child


class BlockVotes:
    """The votes of a block of images, and weighted sums over them.

    With second moments, votes are measured from a center near their mean. Otherwise
    their squares could be so much larger than the variance that it is lost to
    rounding. The result of a routing does not depend on the center, so the gradient
    treats it as a constant.

    Args:
        poses: poses of the children, `(batch, children, P, Q)`.
        matrices: the kernel by child, `(children, Q, parents, R)`.
        initial_weights: the weights of the first iteration,
            `(batch, parents, children)`, or `(batch, 1, children)` if they are the
            same for all parents; at least float32.
        second_moments: whether sums over squares of votes are needed.

    Attributes:
        initial_weights: the argument, repeated for each parent:
            `(batch, parents, children)`.
        initial_moments: `moments(initial_weights)`. If the weights are the same for
            all parents, the sum of the votes is computed as one product of poses and
            matrices in at least float32. Votes are then not rounded to half precision,
            nor clipped in float16.
        center: the point that votes are measured from, `(batch, parents, P·R)`; 0.0
            without second moments.
        powers: `[U]` or `[U, U²]` with `U = V − center`, each
            `(batch, parents, children, P·R)`, at least float32.

    Example:

    >>> import keras
    >>> poses, kernel = keras.ops.ones((2, 6, 1, 8)), keras.ops.ones((6, 8, 10, 16))
    >>> votes = BlockVotes(poses, kernel, keras.ops.ones((2, 1, 6)), False)
    >>> [tuple(m.shape) for m in votes.moments(keras.ops.ones((2, 10, 6)))]
    [(2, 10, 1), (2, 10, 16)]
    """

    def __init__(
        self, poses: Any, matrices: Any, initial_weights: Any, second_moments: bool
    ) -> None:
        self._poses, self._matrices = poses, matrices
        children, _, parents, columns = ops.shape(matrices)
        self._shape = parents, children, poses.shape[2], columns
        self._make()
        mass = ops.sum(initial_weights, axis=-1, keepdims=True)
        if initial_weights.shape[1] == 1:
            total = self._sum_for_all_parents(initial_weights)
            initial_weights = ops.tile(initial_weights, (1, parents, 1))
            mass = ops.tile(mass, (1, parents, 1))
        else:
            total = self._sum(initial_weights, 0)
        self.initial_weights = initial_weights
        self.initial_moments = mass, total
        self.center = 0.0
        if second_moments:
            self.center = ops.stop_gradient(total / (mass + 1e-7))
            self._square()
            squares = self._sum(initial_weights, 1)
            self.initial_moments = mass, total - mass * self.center, squares

    def moments(self, weights: Any) -> tuple:
        """Computes `Σ_i w_ij`, `Σ_i w_ij U_ij` and `Σ_i w_ij U_ij²`.

        Args:
            weights: `(batch, parents, children)`.

        Returns:
            The sum of the weights `(batch, parents, 1)`, the sum of the votes
            `(batch, parents, P·R)` and, with second moments, that of their squares.
        """
        return (
            ops.sum(weights, axis=-1, keepdims=True),
            *(self._sum(weights, power) for power in range(len(self.powers))),
        )

    def scores(self, coefficients: tuple) -> Any:
        """Computes `c_j0 + Σ_h (c_j1h U_ijh + c_j2h U_ijh²)`.

        Args:
            coefficients: a tensor for each power, in the shapes of the moments; or
                those of several polynomials, `(batch, parents, polynomials, …)`.

        Returns:
            `(batch, parents, children)` or `(batch, parents, polynomials, children)`.
        """
        scores, *others = coefficients
        several = "t" if len(scores.shape) == 4 else ""
        for c, u in zip(others, self.powers, strict=True):
            form = f"nj{several}h,njih->nj{several}i"
            scores = scores + ops.einsum(form, c, u)
        return scores

    def gradient(self, weights: tuple, moments: tuple) -> tuple[Any, Any]:
        """Computes the gradient of `Σ_t moments(w_t) · g_t`.

        The sum is linear in the powers of the votes, so one matrix product per power
        adds up the gradients of all iterations.

        Args:
            weights: a tensor `(batch, parents, children)` for each `t`.
            moments: `g`, the gradients of all moments but the first, a tensor
                `(batch, parents, t, P·R)` for each.

        Returns:
            The gradients of the poses and of the matrices, in their shapes.
        """
        weights = ops.stack(weights, axis=2)
        dv = ops.einsum("njti,njth->njih", weights, moments[0])
        if len(moments) == 2:
            # d U² / dV = 2 U
            steep = ops.einsum("njti,njth->njih", weights, 2.0 * moments[1])
            dv = dv + self.powers[0] * steep
        poses, matrices = self._poses, self._matrices
        dv = ops.reshape(ops.cast(dv, poses.dtype), (-1, *self._shape))
        dv = ops.transpose(dv, (2, 0, 3, 1, 4))
        flat = flat_by_child(matrices)
        children = self._shape[1]
        dv = ops.reshape(dv, (children, -1, flat.shape[2]))
        to_poses = matmul(dv, ops.swapaxes(flat, 1, 2))
        to_poses = ops.reshape(to_poses, (children, -1, *poses.shape[2:]))
        to_matrices = matmul(ops.swapaxes(poses_by_child(poses), 1, 2), dv)
        to_matrices = ops.reshape(to_matrices, ops.shape(matrices))
        return ops.transpose(to_poses, (1, 0, 2, 3)), to_matrices

    def _make(self):
        """Computes the votes."""
        votes = at_least_float32(votes_by_child(self._poses, self._matrices))
        parents, children, rows, columns = self._shape
        # A pose is flattened: (batch, parents, children, P·R)
        votes = ops.reshape(votes, (-1, parents, children, rows * columns))
        self.powers = [votes]

    def _square(self):
        """Subtracts the center from the votes, and adds their squares."""
        votes = self.powers[0] - self.center[:, :, None]
        self.powers = [votes, ops.square(votes)]

    def _sum(self, weights, power):
        """Computes `Σ_i w_ij U_ij` (power 0) or `Σ_i w_ij U_ij²` (power 1)."""
        return ops.einsum("nji,njih->njh", weights, self.powers[power])

    def _sum_for_all_parents(self, weights):
        """Computes `Σ_i w_i V_ij` as a product of poses and matrices."""
        parents, children, rows, columns = self._shape
        poses, matrices = map(at_least_float32, (self._poses, self._matrices))
        poses = poses * weights[:, 0, :, None, None]
        poses = ops.transpose(poses, (0, 2, 1, 3))
        poses = ops.reshape(poses, (-1, children * poses.shape[-1]))
        matrices = ops.reshape(matrices, (-1, parents * columns))
        total = matmul(poses, matrices)  # (batch·P, parents·R)
        total = ops.reshape(total, (-1, rows, parents, columns))
        total = ops.transpose(total, (0, 2, 1, 3))
        return ops.reshape(total, (-1, parents, rows * columns))
