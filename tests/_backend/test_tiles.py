import pytest
from helpers import once

from keras_capsules._backend.tiles import children_of_a_program


@once
@pytest.mark.parametrize(
    ("images", "parents", "children", "expected"),
    [
        (512, 10, 1152, 32),
        (2304, 32, 288, 32),  # 288 is no multiple of 64
        (64, 3, 1152, 16),  # there would be too few programs
        (64, 3, 18, 16),
    ],
)
def test_children_of_a_program(images, parents, children, expected):
    assert children_of_a_program(images, parents, children) == expected
