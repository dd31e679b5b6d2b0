"""Which of several processes this one is, and how many devices share its work."""

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


def replicas() -> int:
    """How many devices share a batch, by which Keras divides what a loss returns.

    Returns:
        That of TensorFlow's strategy; 1 elsewhere.

    Example:

    >>> replicas()
    1
    """
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync
