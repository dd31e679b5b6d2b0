import argparse

import pytest

from experiments import flags


def test_numbers_above_zero():
    assert flags.above_zero("0.002") == 0.002


@pytest.mark.parametrize("text", ["0", "-0.1", "nan", "inf"])
def test_numbers_that_are_not_above_zero(text):
    with pytest.raises(argparse.ArgumentTypeError, match=f"above 0, received {text}"):
        flags.above_zero(text)
