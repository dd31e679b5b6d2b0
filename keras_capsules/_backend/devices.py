"""What is known of the device that computes."""

import contextlib

import keras


def accelerator_memory() -> int | None:
    """Bytes of memory that the backend may use on an accelerator.

    TensorFlow does not say how much there is: there it counts as 8 GB.

    Returns:
        The number of bytes; `None` on a processor.

    Example:

    >>> accelerator_memory() is None
    True
    """
    return _MEMORIES[keras.backend.backend()]()


def keep_gpus_from_tensorflow() -> None:
    """Hides the GPUs from TensorFlow where another backend computes.

    TensorFlow, which reads the data, would else take all of their memory. Where it has
    started already nothing changes.

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
    # Unlike `mem_get_info` it asks the driver once, not at every call of a routing.
    return torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory


_MEMORIES = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
