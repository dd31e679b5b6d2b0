"""The processes and devices that train together."""

import keras


def is_first_process() -> bool:
    """Whether this process writes the files of a training.

    Returns:
        True in the first of the processes that `keras.distribution` connects on JAX,
        False in the others. True on other backends.

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
    """Returns the number of devices that share a batch; Keras divides losses by it.

    Returns:
        The number of replicas of TensorFlow's strategy; 1 on other backends.

    Example:

    >>> replicas()
    1
    """
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync
