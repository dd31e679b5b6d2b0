"""Initial standard deviation of kernels whose parents are squashed sums of votes."""

# Assumed length of the children, and initial length of the parents.
LENGTH = 0.3

# Number of children per parent to assume where it may vary.
_CHILDREN = 64


def stddev_for(norm: float, kernel_shape: tuple) -> float:
    """Computes the standard deviation of a kernel that gives sums of votes a norm.

    Args:
        norm: the wanted norm of `Σ_i V_ij / parents`, if children have length `LENGTH`.
        kernel_shape: `(children, parents, Q, R)`, with all children that a parent
            receives votes from; `children` is `None` if their number may vary.

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
