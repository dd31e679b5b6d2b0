"""Which kernels sum over votes on a GPU."""

import importlib.util
import os
from typing import Any

import keras

_enabled = os.environ.get("KERAS_CAPSULES_FUSED_KERNELS") == "1"


def fused_kernels() -> bool:
    """Whether the kernels are switched on, see `config.fused_kernels`.

    Example:

    >>> fused_kernels()
    False
    """
    return _enabled


def set_fused_kernels(enabled: bool) -> None:
    """Switches the kernels on or off, see `config.set_fused_kernels`.

    Args:
        enabled: whether to use them.
    """
    global _enabled
    _enabled = enabled


def fused_sums(dtype: str) -> Any:
    """The module whose kernels sum over votes on the device in use.

    Args:
        dtype: of the sums.

    Returns:
        A module with `scores`, `moments` and `gradient`; `None` where `keras.ops` have
        to do it.

    Example:

    >>> fused_sums("float32") is None
    True
    """
    if not _enabled or dtype != "float32" or not _has_a_gpu():
        return None
    if keras.backend.backend() == "jax":
        from keras_capsules._backend import pallas_votes

        return pallas_votes
    from keras_capsules._backend import triton_votes

    return triton_votes


def compiles() -> bool:
    """Whether PyTorch compiles what is between the kernels.

    Example:

    >>> compiles()
    False
    """
    return _enabled and keras.backend.backend() == "torch" and _has_a_gpu()


def _has_a_gpu():
    """Whether there is one that the kernels are written for."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        # What several devices share is cut along axes that a kernel does not know.
        alone = keras.distribution.distribution() is None
        return alone and jax.devices()[0].platform == "gpu"
    if backend == "torch":
        import torch

        return torch.cuda.is_available() and bool(importlib.util.find_spec("triton"))
    return False
