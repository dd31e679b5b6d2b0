"""How the kernels for a GPU divide their work."""

IMAGES = 64  # images in the largest tile
CHILDREN = 16  # children that a program processes one by one
WARPS = 2048  # twice as many as a GPU runs at a time


def children_of_a_program(children: int, tile: int, warps: int) -> int:
    """Returns how many children a program of `moments` sums over.

    With more children per program fewer partial sums must be added, but there must be
    enough programs for the GPU. If all programs can have the same number of whole
    tiles, no padding is needed.

    Args:
        children: number of children.
        tile: number of children in a tile.
        warps: number of warps of all programs for the same child.

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
    """Returns how many parents a program computes together.

    Args:
        parents: number of parents.
        most: largest number of parents in a program.

    Returns:
        A divisor of `parents`, if there is one above half of `most`. Otherwise the
        shares of the programs are as equal as possible.

    Example:

    >>> [side_by_side(parents, 8) for parents in (3, 10, 196, 11)]
    [3, 5, 7, 6]
    """
    for share in range(min(parents, most), most // 2, -1):
        if parents % share == 0:
            return share
    programs = -(-parents // most)
    return -(-parents // programs)
