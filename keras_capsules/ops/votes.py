"""What each child says the pose of each parent is."""

from typing import Any

import keras
from keras import ops

from keras_capsules import arguments


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
    of_poses, of_kernel = "(batch, children, P, Q)", "(children, parents, Q, R)"
    poses_shape = arguments.shape("poses", poses, of_poses, 4)
    kernel_shape = arguments.shape("kernel", kernel, of_kernel, 4)
    children, parents, q, r = kernel_shape
    p = poses_shape[2]
    if (poses_shape[1], poses_shape[3]) != (children, q):
        raise ValueError(
            f"`poses` {of_poses} and `kernel` {of_kernel} must agree in children and "
            f"in Q. Received: poses {poses_shape}, kernel {kernel_shape}"
        )
    # One matrix product for each child, over the whole batch and all parents.
    poses = ops.transpose(poses, (1, 0, 2, 3))
    poses = ops.reshape(poses, (children, -1, q))  # (children, batch·P, Q)
    kernel = ops.transpose(kernel, (0, 2, 1, 3))
    kernel = ops.reshape(kernel, (children, q, parents * r))
    v = ops.matmul(poses, kernel)  # (children, batch·P, parents·R)
    if keras.backend.standardize_dtype(v.dtype) == "float16":
        v = ops.clip(v, -6e4, 6e4)  # an infinite vote would have no mean
    v = ops.reshape(v, (children, -1, p, parents, r))
    return ops.transpose(v, (1, 3, 0, 2, 4))
