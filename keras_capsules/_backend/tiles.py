"""How the kernels for a GPU cut up their work."""

IMAGES = 64  # of a tile
CHILDREN = 16  # that a program goes through one by one
PROGRAMS = 2048  # twice as many as a GPU runs at a time
GROUP = 2  # children whose gradients a program keeps side by side


def children_of_a_program(images: int, parents: int, children: int) -> int:
    """How many children a program of `moments` adds up.

    The more there are the fewer sums are left to be added, as long as there are enough
    programs. A number that doesn't divide the children would have them filled up.

    Args:
        images: rows of the batch.
        parents: number of parents.
        children: number of children.

    Returns:
        `CHILDREN`, or that times a power of 2.

    Example:

    >>> children_of_a_program(512, 10, 1152)
    32
    """
    size, others = CHILDREN, -(-images // IMAGES) * parents
    while children % (2 * size) == 0 and others * children >= 2 * size * PROGRAMS:
        size *= 2
    return size
