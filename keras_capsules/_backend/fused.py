"""Which kernels sum over votes on a GPU."""

import importlib.util
import os
from typing import Any

import keras

_enabled = os.environ.get("KERAS_CAPSULES_FUSED_KERNELS") == "1"


def fused_kernels() -> bool:
    """Whether routings use kernels of their own on a GPU.

    Example:

    >>> from keras_capsules import config
    >>> config.fused_kernels()
    False
    """
    return _enabled


def set_fused_kernels(enabled: bool) -> None:
    """Sets whether routings use kernels of their own on a GPU.

    The kernels sum over votes without writing a vote to memory, forward and backward,
    for every `routing.MomentRouting`. They exist for JAX (Pallas) and for PyTorch
    (Triton) on NVIDIA GPUs; elsewhere, and with `keras.distribution`, the setting
    changes nothing. In float64 votes are kept.

    With PyTorch the rest of a routing is compiled as well, at its first call with
    inputs of a shape. As with `jax.jit`, hooks of yours must not look at values of
    tensors. Numbers and strings that are attributes of a routing may change, each time
    for another compilation: for what changes often use a weight that is not trained.

    The setting holds for functions that are compiled after it is set. The environment
    variable `KERAS_CAPSULES_FUSED_KERNELS=1` does the same.

    Args:
        enabled: whether to use them.

    Raises:
        ValueError: the argument is no boolean.

    Example:

    >>> from keras_capsules import config
    >>> config.set_fused_kernels(False)
    """
    global _enabled
    if not isinstance(enabled, bool):
        raise ValueError(
            f"Argument `enabled` must be True or False. Received: enabled={enabled!r}"
        )
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
