"""Properties and settings of the device that computes."""

import contextlib

import keras


def accelerator_memory() -> int | None:
    """Returns the bytes of memory that the backend may use on an accelerator.

    TensorFlow does not report them, so 8 GB are assumed.

    Returns:
        The number of bytes; `None` on a CPU.

    Example:

    >>> accelerator_memory() is None
    True
    """
    return _MEMORIES[keras.backend.backend()]()


def keep_gpus_from_tensorflow() -> None:
    """Hides the GPUs from TensorFlow if Keras uses another backend.

    TensorFlow, which reads the data, would otherwise reserve all of their memory. If
    TensorFlow has already initialized the GPUs, nothing changes.

    Example:

    >>> keep_gpus_from_tensorflow()
    """
    if keras.backend.backend() == "tensorflow":
        return
    import tensorflow as tf

    with contextlib.suppress(RuntimeError):
        tf.config.set_visible_devices([], "GPU")


def _tensorflow():
    import tensorflow as tf

    return 8 * 10**9 if tf.config.list_physical_devices("GPU") else None


def _jax():
    import jax

    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return None
    return (device.memory_stats() or {}).get("bytes_limit")


def _torch():
    import torch

    if not torch.cuda.is_available():
        return None
    # `mem_get_info` would query the driver at every call of a routing.
    return torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory


_MEMORIES = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
