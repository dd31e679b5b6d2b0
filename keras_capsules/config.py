"""Settings of the package."""

from keras_capsules import _backend, validation

__all__ = ["fused_kernels", "set_fused_kernels"]


def fused_kernels() -> bool:
    """Whether routings use kernels of their own on a GPU.

    Example:

    >>> from keras_capsules import config
    >>> config.fused_kernels()
    False
    """
    return _backend.fused_kernels()


def set_fused_kernels(enabled: bool) -> None:
    """Sets whether routings use kernels of their own on a GPU.

    The kernels sum over votes without writing a vote to memory, forward and backward,
    for every `routing.MomentRouting`. They exist for JAX (Pallas) and for PyTorch
    (Triton) on NVIDIA GPUs; elsewhere, and with `keras.distribution`, the setting
    changes nothing. In float64 votes are kept. By default they are on with JAX 0.10 or
    newer on an H100, where they were measured, and on an H200, which has the same chip.

    With PyTorch the rest of a routing is compiled as well, at its first call with
    inputs of a shape. As with `jax.jit`, hooks of yours must not look at values of
    tensors. Numbers and strings that are attributes of a routing may change, each time
    for another compilation: for what changes often use a weight that is not trained.

    The setting holds for functions that are compiled after it is set. The environment
    variable `KERAS_CAPSULES_FUSED_KERNELS`, 0 or 1, does the same.

    Args:
        enabled: whether to use them.

    Raises:
        ValueError: the argument is no boolean.

    Example:

    >>> from keras_capsules import config
    >>> config.set_fused_kernels(False)
    """
    _backend.set_fused_kernels(validation.check_flag("enabled", enabled))
