"""The only code that asks which backend runs."""

from keras_capsules._backend.assertions import assert_in_graph
from keras_capsules._backend.convolutions import strided_convolution
from keras_capsules._backend.gradients import custom_gradient, vjp
from keras_capsules._backend.loops import fixed_loop, over_blocks, unrolled
from keras_capsules._backend.models import input_gradient, recompile
from keras_capsules._backend.processes import is_first_process
from keras_capsules._backend.special import digamma

__all__ = [
    "assert_in_graph",
    "custom_gradient",
    "digamma",
    "fixed_loop",
    "input_gradient",
    "is_first_process",
    "over_blocks",
    "recompile",
    "strided_convolution",
    "unrolled",
    "vjp",
]
