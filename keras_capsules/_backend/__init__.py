"""All code that depends on the Keras backend."""

from keras_capsules._backend.assertions import assert_in_graph
from keras_capsules._backend.convolutions import Conv2D, strided_convolution
from keras_capsules._backend.devices import (
    accelerator_memory,
    keep_gpus_from_tensorflow,
)
from keras_capsules._backend.extremes import amax, amin
from keras_capsules._backend.fused import (
    fused_kernels,
    fused_sums,
    set_fused_kernels,
)
from keras_capsules._backend.gradients import custom_gradient, gradients, or_zeros, vjp
from keras_capsules._backend.loops import fixed_loop, over_blocks, unrolled
from keras_capsules._backend.models import (
    build_training,
    check_writes_saved_models,
    input_gradient,
    recompile,
    run_exported,
    seed_generators,
)
from keras_capsules._backend.normalization import BatchNormalization
from keras_capsules._backend.onnx_files import complete_onnx
from keras_capsules._backend.precision import float64, matmul, mean
from keras_capsules._backend.processes import is_first_process, replicas
from keras_capsules._backend.programs import compiled, jit, not_compiled
from keras_capsules._backend.shapes import with_static_shape
from keras_capsules._backend.special import digamma, expm1

__all__ = [
    "BatchNormalization",
    "Conv2D",
    "accelerator_memory",
    "amax",
    "amin",
    "assert_in_graph",
    "build_training",
    "check_writes_saved_models",
    "compiled",
    "complete_onnx",
    "custom_gradient",
    "digamma",
    "expm1",
    "fixed_loop",
    "float64",
    "fused_kernels",
    "fused_sums",
    "gradients",
    "input_gradient",
    "is_first_process",
    "jit",
    "keep_gpus_from_tensorflow",
    "matmul",
    "mean",
    "not_compiled",
    "or_zeros",
    "over_blocks",
    "recompile",
    "replicas",
    "run_exported",
    "seed_generators",
    "set_fused_kernels",
    "strided_convolution",
    "unrolled",
    "vjp",
    "with_static_shape",
]
