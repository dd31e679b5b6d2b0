"""Votes of children for the poses of parents."""

from typing import Any

import keras
from keras import ops

from keras_capsules import validation
from keras_capsules._backend import matmul


def votes(poses: Any, kernel: Any) -> Any:
    """Computes the votes of children for parents, `pose_i · kernel_ij`.

    A vector pose of size D is a 1 × D matrix.

    Args:
        poses: poses of the children, `(batch, children, P, Q)`.
        kernel: transformation matrices, `(children, parents, Q, R)`.

    Returns:
        Votes `(batch, parents, children, P, R)` in the dtype of the arguments. In
        float16 they are clipped to ±60,000. Parents come before children because a
        routing sums over the children of a parent, which are then contiguous in
        memory.

    Raises:
        ValueError: the shapes do not fit together.

    Example:

    >>> import keras
    >>> from keras_capsules.ops import votes
    >>> poses = keras.ops.ones((2, 6, 1, 8))
    >>> kernel = keras.ops.ones((6, 10, 8, 16))
    >>> tuple(votes(poses, kernel).shape)
    (2, 10, 6, 1, 16)

    Reference:
        Sabour, Frosst and Hinton, Dynamic routing between capsules (2017),
        equation 2, right; Hinton, Sabour and Frosst, Matrix capsules with EM
        routing (2018), section 2.
    """
    poses, kernel = ops.convert_to_tensor(poses), ops.convert_to_tensor(kernel)
    check_poses_and_kernel(poses.shape, kernel.shape)
    return votes_by_child(poses, kernel_by_child(kernel))


def check_poses_and_kernel(poses_shape: tuple, kernel_shape: tuple) -> None:
    """Raises an error if the shapes of poses and a kernel do not fit together.

    Args:
        poses_shape: `(batch, children, P, Q)`.
        kernel_shape: `(children, parents, Q, R)`.

    Raises:
        ValueError: the shapes have a wrong rank or do not fit together.
    """
    of_poses, of_kernel = "(batch, children, P, Q)", "(children, parents, Q, R)"
    poses_shape = validation.check_shape("poses", poses_shape, of_poses, 4)
    kernel_shape = validation.check_shape("kernel", kernel_shape, of_kernel, 4)
    children, _, q, _ = kernel_shape
    pairs = zip((poses_shape[1], poses_shape[3]), (children, q), strict=True)
    # The number of children is not known in every graph.
    if any(a != b for a, b in pairs if None not in (a, b)):
        raise ValueError(
            f"`poses` {of_poses} and `kernel` {of_kernel} must agree in children and "
            f"in Q. Received: poses {poses_shape}, kernel {kernel_shape}"
        )


def kernel_by_child(kernel: Any) -> Any:
    """Transposes a kernel so that the matrices of a child can be merged into one.

    Args:
        kernel: transformation matrices, `(children, parents, Q, R)`.

    Returns:
        `(children, Q, parents, R)`.
    """
    return ops.transpose(kernel, (0, 2, 1, 3))


def votes_by_child(poses: Any, matrices: Any) -> Any:
    """Computes `votes` with a kernel `(children, Q, parents, R)`."""
    children, _, parents, columns = ops.shape(matrices)
    # (children, batch·P, parents·R)
    v = matmul(poses_by_child(poses), flat_by_child(matrices))
    if keras.backend.standardize_dtype(v.dtype) == "float16":
        v = ops.clip(v, -6e4, 6e4)  # an infinite vote would have no mean
    v = ops.reshape(v, (children, -1, poses.shape[2], parents, columns))
    return ops.transpose(v, (1, 3, 0, 2, 4))


def flat_by_child(matrices: Any) -> Any:
    """Reshapes (children, Q, parents, R) to (children, Q, parents·R)."""
    children, q, parents, columns = ops.shape(matrices)
    return ops.reshape(matrices, (children, q, parents * columns))


def poses_by_child(poses: Any) -> Any:
    """Rearranges (batch, children, P, Q) to (children, batch·P, Q)."""
    _, children, _, q = ops.shape(poses)
    return ops.reshape(ops.transpose(poses, (1, 0, 2, 3)), (children, -1, q))
