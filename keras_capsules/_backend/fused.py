"""Selection of the kernels that sum over votes on a GPU."""

import importlib.util
import os
from typing import Any

import keras

# The user's setting; `None` stands for the default of the device.
_asked = {"0": False, "1": True}.get(os.environ.get("KERAS_CAPSULES_FUSED_KERNELS"))


def fused_kernels() -> bool:
    """Whether the kernels are enabled, see `config.fused_kernels`.

    Example:

    >>> fused_kernels()
    False
    """
    return _faster_on_this_device() if _asked is None else _asked


def set_fused_kernels(enabled: bool) -> None:
    """Enables or disables the kernels, see `config.set_fused_kernels`.

    Args:
        enabled: whether to use them.
    """
    global _asked
    _asked = enabled


def fused_sums(dtype: str) -> Any:
    """Returns the module whose kernels sum over votes on the device in use.

    Args:
        dtype: dtype of the sums.

    Returns:
        A module with `scores`, `moments` and `gradient`; `None` if `keras.ops` must
        compute the sums.

    Example:

    >>> fused_sums("float32") is None
    True
    """
    if not fused_kernels() or dtype != "float32" or not _has_a_gpu():
        return None
    if keras.backend.backend() == "jax":
        from keras_capsules._backend import pallas_votes

        return pallas_votes
    from keras_capsules._backend import triton_votes

    return triton_votes


def compiles() -> bool:
    """Whether PyTorch compiles the operations between the kernels.

    Example:

    >>> compiles()
    False
    """
    return fused_kernels() and keras.backend.backend() == "torch" and _has_a_gpu()


def _faster_on_this_device():
    """Whether the kernels were faster when measured on a device of this type."""
    if keras.backend.backend() != "jax":
        return False
    import jax

    # An H200 has the same chip as an H100. The kernels were written for JAX 0.10.
    hopper = getattr(_jax_device(), "compute_capability", "").startswith("9.")
    return hopper and jax.__version_info__ >= (0, 10)


def _has_a_gpu():
    """Whether there is a GPU that the kernels support."""
    backend = keras.backend.backend()
    if backend == "jax":
        # A kernel can't compute with arrays that are sharded over several devices.
        alone = keras.distribution.distribution() is None
        return alone and _jax_device().platform == "gpu"
    if backend == "torch":
        import torch

        return torch.cuda.is_available() and bool(importlib.util.find_spec("triton"))
    return False


def _jax_device():
    """The device on which JAX computes, see `keras.device`."""
    import jax

    chosen = jax.config.jax_default_device
    if chosen is None or isinstance(chosen, str):
        return jax.devices(chosen)[0]
    return chosen
