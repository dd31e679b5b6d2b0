"""How wide the kernels begin whose parents are squashed sums of votes."""

# Of children, and of the parents that they have then.
LENGTH = 0.3

# How many a parent sees where that may vary.
_CHILDREN = 64


def stddev_for(norm: float, kernel_shape: tuple) -> float:
    """Standard deviation of a kernel that gives mean votes a norm.

    Args:
        norm: of `Σ_i V_ij / parents`, for children of length `LENGTH`.
        kernel_shape: `(children, parents, Q, R)`, with all children that a parent
            sees; `None` if their number may vary.

    Returns:
        The standard deviation.

    Example:

    >>> round(stddev_for(0.6, (1152, 10, 8, 16)), 3)
    0.147
    """
    children, parents, _, columns = kernel_shape
    children = children or _CHILDREN
    # norm² = children · columns · (stddev · length / parents)²
    return parents / LENGTH * norm / (children * columns) ** 0.5
