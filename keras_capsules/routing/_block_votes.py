"""The votes of a block of images, and sums over them."""

from typing import Any

from keras import ops

from keras_capsules._backend import matmul
from keras_capsules.ops import at_least_float32
from keras_capsules.ops.votes import flat_by_child, poses_by_child, votes_by_child


class BlockVotes:
    """The votes of a block of images, as long as they are worked on.

    Children and parents only need sums over them. With second moments votes are
    measured from a center near their mean, else their squares would swamp the
    variance. What is computed from the moments does not depend on the center, so its
    gradient is zero and it is a constant here.

    Args:
        poses: poses of the children, `(batch, children, P, Q)`.
        matrices: the kernel by child, `(children, Q, parents, R)`.
        initial_weights: the weights of the first iteration,
            `(batch, parents, children)`, or `(batch, 1, children)` if they are the
            same for all parents; at least float32.
        second_moments: whether squares of votes are needed.

    Attributes:
        initial_weights: the same, `(batch, parents, children)`.
        initial_moments: `moments(initial_weights)`. For weights that are the same for
            all parents the first of them is a product of poses, and so knows nothing
            of the rounding of votes in half precision and their end in float16.
        center: where votes are measured from, `(batch, parents, P·R)`; 0.0 without
            second moments.
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
        """`Σ_i w_ij`, `Σ_i w_ij U_ij` and `Σ_i w_ij U_ij²`.

        Args:
            weights: `(batch, parents, children)`.

        Returns:
            A tensor `(batch, parents, 1)` and others `(batch, parents, P·R)`.
        """
        return (
            ops.sum(weights, axis=-1, keepdims=True),
            *(self._sum(weights, power) for power in range(len(self.powers))),
        )

    def scores(self, coefficients: tuple) -> Any:
        """`c_j0 + Σ_h (c_j1h U_ijh + c_j2h U_ijh²)`.

        Args:
            coefficients: for each power a tensor, in the shapes of the moments; or
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
        """What `Σ_t moments(w_t) · g_t` gives to the poses and to the matrices.

        It is linear in what the moments are of, so one matrix product for each power
        gathers every iteration's part of a vote's gradient.

        Args:
            weights: for each `t` a tensor `(batch, parents, children)`.
            moments: gradients of the moments but the first,
                `(batch, parents, t, P·R)`.

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
        """Makes the votes."""
        votes = at_least_float32(votes_by_child(self._poses, self._matrices))
        parents, children, rows, columns = self._shape
        # A pose is flattened: (batch, parents, children, P·R)
        votes = ops.reshape(votes, (-1, parents, children, rows * columns))
        self.powers = [votes]

    def _square(self):
        """Measures the votes from the center, and squares them."""
        votes = self.powers[0] - self.center[:, :, None]
        self.powers = [votes, ops.square(votes)]

    def _sum(self, weights, power):
        """`Σ_i w_ij U_ij` or `Σ_i w_ij U_ij²`."""
        return ops.einsum("nji,njih->njh", weights, self.powers[power])

    def _sum_for_all_parents(self, weights):
        """`Σ_i w_i V_ij` as a product of poses and matrices."""
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
