"""Which of several processes this one is."""

import keras


def is_first_process() -> bool:
    """Whether this process writes the files of a training.

    Returns:
        False in all processes but the first that `keras.distribution` joins, which
        it does on JAX; true elsewhere.

    Example:

    >>> from keras_capsules import callbacks
    >>> callbacks.is_first_process()
    True
    """
    if keras.backend.backend() != "jax":
        return True
    import jax

    return jax.process_index() == 0
