"""What each child says the pose of each parent is."""

from typing import Any

import keras
from keras import ops

from keras_capsules import arguments
from keras_capsules.ops.norms import at_least_float32


def votes(poses: Any, kernel: Any) -> Any:
    """Votes of children for the poses of parents: `pose_i · kernel_ij`.

    A vector pose of size D is a 1 × D matrix.

    Args:
        poses: poses of the children, `(batch, children, P, Q)`.
        kernel: transformation matrices, `(children, parents, Q, R)`.

    Raises:
        ValueError: the shapes do not fit together.

    Returns:
        Votes `(batch, parents, children, P, R)` in the dtype of the arguments;
        in float16 they end at ±60,000.
        Parents come before children because a routing sums over the children
        of one parent: they lie next to each other.

    Example:

    >>> import keras
    >>> poses = keras.ops.ones((2, 6, 1, 8))
    >>> kernel = keras.ops.ones((6, 10, 8, 16))
    >>> tuple(votes(poses, kernel).shape)
    (2, 10, 6, 1, 16)

    Reference:
        Sabour, Frosst and Hinton, Dynamic routing between capsules (2017),
        equation 2, right; Hinton, Sabour and Frosst, Matrix capsules with EM
        routing (2018), section 2.
    """
    poses, matrices = ops.convert_to_tensor(poses), by_child(poses, kernel)
    return _votes(poses, matrices)


def by_child(poses: Any, kernel: Any) -> Any:
    """A kernel with all that a child needs side by side.

    Args:
        poses: poses of the children, `(batch, children, P, Q)`.
        kernel: transformation matrices, `(children, parents, Q, R)`.

    Returns:
        `(children, Q, parents, R)`.

    Raises:
        ValueError: the shapes do not fit together.

    Example:

    >>> import keras
    >>> poses = keras.ops.ones((2, 6, 1, 8))
    >>> tuple(by_child(poses, keras.ops.ones((6, 10, 8, 16))).shape)
    (6, 8, 10, 16)
    """
    of_poses, of_kernel = "(batch, children, P, Q)", "(children, parents, Q, R)"
    poses_shape = arguments.shape("poses", poses, of_poses, 4)
    kernel_shape = arguments.shape("kernel", kernel, of_kernel, 4)
    children, _, q, _ = kernel_shape
    if (poses_shape[1], poses_shape[3]) != (children, q):
        raise ValueError(
            f"`poses` {of_poses} and `kernel` {of_kernel} must agree in children and "
            f"in Q. Received: poses {poses_shape}, kernel {kernel_shape}"
        )
    return ops.transpose(kernel, (0, 2, 1, 3))


class Votes:
    """The votes of a block of images, as long as they are worked on.

    Children and parents only need sums over them. Squares are of the distance to
    the mean of the first iteration, else they would swamp the variance.

    Args:
        poses: poses of the children, `(batch, children, P, Q)`.
        matrices: the kernel `by_child`, `(children, Q, parents, R)`.
        first: what every parent gets of each child in the first iteration,
            `(batch, children)`, at least float32.
        degree: 1, or 2 for moments with squares.

    Attributes:
        first: the same, `(batch, parents, children)`.
        center: the mean of the votes by these weights, `(batch, parents, P·R)`.
        powers: `[V]` or `[V, (V − center)²]`, each
            `(batch, parents, children, P·R)`, at least float32.

    Example:

    >>> import keras
    >>> poses, kernel = keras.ops.ones((2, 6, 1, 8)), keras.ops.ones((6, 10, 8, 16))
    >>> votes = Votes(poses, by_child(poses, kernel), first=keras.ops.ones((2, 6)))
    >>> [tuple(m.shape) for m in votes.moments(keras.ops.ones((2, 10, 6)))]
    [(2, 10, 1), (2, 10, 16)]
    """

    def __init__(self, poses: Any, matrices: Any, first: Any, degree: int = 1) -> None:
        self._poses, self._matrices = poses, matrices
        v = at_least_float32(_votes(poses, matrices))
        self._shape = tuple(v.shape[1:])
        parents, children, rows, columns = self._shape
        # A pose is flattened: (batch, parents, children, P·R)
        v = ops.reshape(v, (-1, parents, children, rows * columns))
        total = self._total(first)
        mass = ops.sum(first, axis=-1)[:, None, None]
        self.first = ops.repeat(first[:, None], parents, axis=1)
        self.center, self.powers = total / (mass + 1e-7), [v]
        self._first_moments = ops.repeat(mass, parents, axis=1), total
        if degree == 2:
            self.powers.append(ops.square(v - ops.expand_dims(self.center, 2)))

    def moments(self, weights: Any) -> tuple:
        """`Σ_i w_ij`, `Σ_i w_ij V_ij` and `Σ_i w_ij (V_ij − center_j)²`.

        Args:
            weights: `(batch, parents, children)`.

        Returns:
            A tensor `(batch, parents, 1)` and others `(batch, parents, P·R)`.
        """
        return (
            ops.sum(weights, axis=-1, keepdims=True),
            *(_weighted_sum(weights, v) for v in self.powers),
        )

    def first_moments(self) -> tuple:
        """`moments(first)`, for less: its `Σ_i w_i V_ij` is a product of poses.

        The same but for the rounding of votes in half precision and their end in
        float16.
        """
        squares = (_weighted_sum(self.first, v) for v in self.powers[1:])
        return *self._first_moments, *squares

    def scores(self, coefficients: tuple) -> Any:
        """`c_j0 + Σ_h (c_j1h V_ijh + c_j2h (V_ijh − center_jh)²)`, as parents state it.

        Args:
            coefficients: for each power a tensor, in the shapes of the moments; or
                those of several polynomials, `(batch, parents, polynomials, …)`.

        Returns:
            `(batch, parents, children)` or `(batch, parents, polynomials, children)`.
        """
        scores, *others = coefficients
        several = "t" if len(scores.shape) == 4 else ""
        for c, v in zip(others, self.powers, strict=True):
            form = f"nj{several}h,njih->nj{several}i"
            scores = scores + ops.einsum(form, c, v)
        return scores

    def gradient(self, weights: Any, moments: tuple) -> tuple[Any, Any]:
        """What `Σ_t moments(w_t) · g_t` gives to the poses and to the matrices.

        It is linear in what the moments are of, so one matrix product for each power
        gathers every iteration's part of a vote's gradient.

        Args:
            weights: `(batch, parents, t, children)`.
            moments: gradients of the moments but the first,
                `(batch, parents, t, P·R)`.

        Returns:
            The gradients of the poses and of the matrices, in their shapes.
        """
        slopes = moments[0]
        if len(moments) == 2:
            # d (V − center)² / dV = 2 (V − center)
            steep = 2.0 * moments[1]
            slopes = slopes - steep * ops.expand_dims(self.center, 2)
        dv = ops.einsum("njti,njth->njih", weights, slopes)
        if len(moments) == 2:
            dv = dv + self.powers[0] * ops.einsum("njti,njth->njih", weights, steep)
        poses, matrices = self._poses, self._matrices
        dv = ops.reshape(ops.cast(dv, poses.dtype), (-1, *self._shape))
        dv = ops.transpose(dv, (2, 0, 3, 1, 4))
        flat = _for_all_parents(matrices)
        dv = ops.reshape(dv, (poses.shape[1], -1, flat.shape[2]))
        to_poses = ops.matmul(dv, ops.swapaxes(flat, 1, 2))
        to_poses = ops.reshape(to_poses, (poses.shape[1], -1, *poses.shape[2:]))
        to_matrices = ops.matmul(ops.swapaxes(_rows_by_child(poses), 1, 2), dv)
        to_matrices = ops.reshape(to_matrices, matrices.shape)
        return ops.transpose(to_poses, (1, 0, 2, 3)), to_matrices

    def _total(self, weights):
        """`Σ_i w_i V_ij` of weights that are the same for all parents."""
        parents, children, rows, columns = self._shape
        poses, matrices = map(at_least_float32, (self._poses, self._matrices))
        poses = poses * weights[..., None, None]
        poses = ops.transpose(poses, (0, 2, 1, 3))
        poses = ops.reshape(poses, (-1, children * poses.shape[-1]))
        matrices = ops.reshape(matrices, (-1, parents * columns))
        total = ops.matmul(poses, matrices)  # (batch·P, parents·R)
        total = ops.reshape(total, (-1, rows, parents, columns))
        total = ops.transpose(total, (0, 2, 1, 3))
        return ops.reshape(total, (-1, parents, rows * columns))


def _weighted_sum(weights, v):
    return ops.einsum("nji,njih->njh", weights, v)


def _votes(poses, matrices):
    children, _, parents, columns = matrices.shape
    # (children, batch·P, parents·R)
    v = ops.matmul(_rows_by_child(poses), _for_all_parents(matrices))
    if keras.backend.standardize_dtype(v.dtype) == "float16":
        v = ops.clip(v, -6e4, 6e4)  # an infinite vote would have no mean
    v = ops.reshape(v, (children, -1, poses.shape[2], parents, columns))
    return ops.transpose(v, (1, 3, 0, 2, 4))


def _for_all_parents(matrices):
    """(children, Q, parents, R) as (children, Q, parents·R)."""
    return ops.reshape(matrices, (*matrices.shape[:2], -1))


def _rows_by_child(poses):
    """(batch, children, P, Q) as (children, batch·P, Q)."""
    _, children, _, q = poses.shape
    return ops.reshape(ops.transpose(poses, (1, 0, 2, 3)), (children, -1, q))
