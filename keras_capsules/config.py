"""Settings of the package."""

from keras_capsules import _backend, validation

__all__ = ["fused_kernels", "set_fused_kernels"]


def fused_kernels() -> bool:
    """Returns whether the fused kernels are enabled.

    Returns:
        True if they are enabled, see `set_fused_kernels`. It may be True on a device
        that has no such kernels.

    Example:

    >>> from keras_capsules import config
    >>> config.fused_kernels()
    False
    """
    return _backend.fused_kernels()


def set_fused_kernels(enabled: bool) -> None:
    """Sets whether routings use fused kernels on a GPU.

    The fused kernels compute weighted sums over votes without storing the votes in
    memory, in the forward and the backward pass of every `routing.MomentRouting`. They
    exist for JAX (Pallas) and PyTorch (Triton) on NVIDIA GPUs. On other devices, with
    other backends, with `keras.distribution` and in float64 the setting has no effect.
    By default they are enabled with JAX 0.10 or newer on an H100, where they were
    measured, and on an H200, which has the same chip.

    With PyTorch the rest of a routing is compiled as well, at its first call with
    inputs of a new shape. As with `jax.jit`, the hooks of your own routings must not
    depend on values of tensors in Python code. If a number or string that is an
    attribute of a routing changes, the routing is compiled again. Use a non-trainable
    weight for values that change often.

    The setting applies to functions that are compiled after the call. The environment
    variable `KERAS_CAPSULES_FUSED_KERNELS` (0 or 1) has the same effect. It is read
    when the package is imported.

    Args:
        enabled: whether to use the fused kernels.

    Raises:
        ValueError: the argument is not a boolean.

    Example:

    >>> from keras_capsules import config
    >>> config.set_fused_kernels(False)
    """
    _backend.set_fused_kernels(validation.check_flag("enabled", enabled))
