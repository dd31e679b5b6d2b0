"""How the kernels for a GPU cut up their work."""

IMAGES = 64  # of the largest tile
CHILDREN = 16  # that a program goes through one by one
WARPS = 2048  # twice as many as a GPU runs at a time


def children_of_a_program(children: int, tile: int, warps: int) -> int:
    """How many children a program of `moments` adds up.

    The more there are the fewer sums are left to be added, as long as there are enough
    programs. Where all programs can have as many whole tiles, nothing is filled up.

    Args:
        children: number of children.
        tile: children of a tile.
        warps: of all programs for a child.

    Returns:
        A multiple of `tile`.

    Example:

    >>> children_of_a_program(1152, tile=16, warps=80)
    32
    """
    count = -(-children // tile)
    programs = min(-(-WARPS // warps), count)
    for n in range(programs, min(4 * programs, count + 1)):
        if count % n == 0:
            return tile * (count // n)
    return tile * -(-count // programs)


def side_by_side(parents: int, most: int) -> int:
    """How many parents a program serves at a time, as equal shares as possible.

    Args:
        parents: number of parents.
        most: the most that a program may serve.

    Returns:
        A divisor of `parents`, if there is one of more than half of `most`.

    Example:

    >>> [side_by_side(parents, 8) for parents in (3, 10, 196, 11)]
    [3, 5, 7, 6]
    """
    for share in range(min(parents, most), most // 2, -1):
        if parents % share == 0:
            return share
    programs = -(-parents // most)
    return -(-parents // programs)
