"""Types of command-line flags. The module imports neither Keras nor TensorFlow."""

import argparse
import math

PRECISIONS = ["float32", "mixed_bfloat16", "mixed_float16"]


def at_least(minimum):
    """Returns the argparse type of an integer flag of at least `minimum`."""

    def integer(text):
        number = int(text)
        if number < minimum:
            raise argparse.ArgumentTypeError(
                f"expected at least {minimum}, received {text}"
            )
        return number

    return integer


positive, natural = at_least(1), at_least(0)


def above_zero(text):
    """Parses a flag that is a number above 0."""
    number = float(text)
    if not 0.0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, received {text}")
    return number


def parser_of(description):
    """Returns an argument parser that prints a docstring unchanged as its help."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
