import pytest
from helpers import once

from keras_capsules._backend.tiles import children_of_a_program, side_by_side


@once
@pytest.mark.parametrize(
    ("children", "tile", "warps", "expected"),
    [
        (1152, 16, 80, 32),
        (3872, 8, 112, 176),  # 22 of its 484 tiles, no power of 2
        (288, 16, 2304, 288),  # the programs for a child are enough
        (1152, 16, 3, 16),  # there would be too few programs
        (18, 16, 3, 16),
        (1153, 8, 64, 40),  # 145 tiles have no divisor from 32 to 127
    ],
)
def test_children_of_a_program(children, tile, warps, expected):
    assert children_of_a_program(children, tile, warps) == expected


@once
@pytest.mark.parametrize(
    ("parents", "most", "expected"),
    [(1, 8, 1), (3, 8, 3), (10, 8, 5), (196, 8, 7), (11, 8, 6), (5, 2, 2)],
)
def test_side_by_side(parents, most, expected):
    assert side_by_side(parents, most) == expected
