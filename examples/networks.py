"""The networks of the second paper, compiled as every example trains them."""

import keras

from keras_capsules import callbacks, losses, models, routing


def matrix_capsnet(image_shape, classes, config, iterations, steps):
    """A network of matrix capsules, and the callback that raises its margin.

    The margin grows over the first half of the training, whatever its length.

    Args:
        image_shape: shape of an image.
        classes: number of classes.
        config: as for `models.MatrixCapsNet`.
        iterations: routing iterations.
        steps: batches in the whole training.
    """
    model = models.MatrixCapsNet(
        image_shape, classes, config, routing=routing.EMRouting(iterations)
    )
    learning_rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps, alpha=0.01, warmup_target=0.01, warmup_steps=min(200, steps // 10)
    )
    model.compile(
        keras.optimizers.Adam(learning_rate),
        loss=losses.SpreadLoss(),
        metrics=["accuracy"],
    )
    return model, callbacks.SpreadMarginSchedule(steps=max(1, steps // 16))


def baseline_cnn(image_shape, classes, steps):
    """The CNN that capsules are compared with; arguments as above."""
    model = models.BaselineCNN(image_shape, classes)
    learning_rate = keras.optimizers.schedules.CosineDecay(0.001, steps, alpha=0.01)
    model.compile(
        keras.optimizers.Adam(learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model
