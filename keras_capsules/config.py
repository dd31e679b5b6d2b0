"""Settings of the package."""

from keras_capsules._backend import fused_kernels, set_fused_kernels

__all__ = ["fused_kernels", "set_fused_kernels"]
