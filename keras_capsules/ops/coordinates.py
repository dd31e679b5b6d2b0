"""Coordinates of children in their votes."""

from typing import Any

import numpy as np
from keras import ops


def add_coordinates(poses: Any, kernel: Any, size: tuple[int, int]) -> tuple:
    """Adds the coordinates of each child to its votes.

    The relative row and column of the child, from 0 to 1, are added to the
    first two elements of the right-hand column of its vote. As in homogeneous
    coordinates this is still a product of pose and kernel: the pose gets the
    column `(row, column, 0, …)` and the kernel the row `(0, …, 0, 1)`.

    Args:
        poses: poses of the children, `(batch, height·width·types, P, Q)`, P at
            least 2.
        kernel: transformation matrices, `(height·width·types, parents, Q, R)`.
        size: height and width of the grid of children.

    Returns:
        A tuple of poses `(batch, height·width·types, P, Q + 1)` and kernel
        `(height·width·types, parents, Q + 1, R)`.

    Example:

    >>> import keras
    >>> from keras_capsules.ops import add_coordinates
    >>> poses, kernel = keras.ops.zeros((1, 6, 4, 4)), keras.ops.zeros((6, 1, 4, 4))
    >>> poses, kernel = add_coordinates(poses, kernel, size=(2, 3))
    >>> votes = keras.ops.matmul(poses, kernel[:, 0])
    >>> [round(float(x), 2) for x in votes[0, 5, :, 3]]
    [0.75, 0.83, 0.0, 0.0]

    Reference:
        Hinton, Sabour and Frosst, Matrix capsules with EM routing (2018),
        section 4.
    """
    height, width = size
    _, children, rows, _ = poses.shape
    _, parents, _, columns = kernel.shape
    row, column = np.mgrid[:height, :width]
    place = np.zeros((height * width, rows, 1))
    place[:, 0, 0] = (row.ravel() + 0.5) / height
    place[:, 1, 0] = (column.ravel() + 0.5) / width
    place = np.repeat(place, children // (height * width), axis=0)
    place = ops.zeros_like(poses[..., :1]) + ops.cast(place, poses.dtype)
    right = np.broadcast_to(np.eye(columns)[-1:], (children, parents, 1, columns))
    right = ops.cast(ops.convert_to_tensor(right), kernel.dtype)
    return ops.concatenate([poses, place], -1), ops.concatenate([kernel, right], -2)
