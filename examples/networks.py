"""The networks of both papers, compiled as every example trains them."""

import keras

from keras_capsules import callbacks, losses, metrics, models, routing

# Widths of the first paper's network: those of the paper, which are the defaults, and
# others that make less than a sixth of it.
CAPSNETS = {
    "paper": {},
    "small": {"filters": 64, "primary_capsules": 8, "decoder_units": (256, 512)},
}


def capsnet(image_shape, classes, steps, learning_rate=0.001, **settings):
    """The network of the first paper.

    Args:
        image_shape: shape of an image.
        classes: number of classes.
        steps: batches in the whole training.
        learning_rate: of the first step.
        **settings: as for `models.CapsNet`; by default the sizes of the paper.
    """
    model = models.CapsNet(image_shape, classes, **settings)
    learning_rate = keras.optimizers.schedules.ExponentialDecay(
        learning_rate, decay_steps=steps, decay_rate=0.05
    )
    several = model.objects > 1
    model.compile(
        keras.optimizers.Adam(learning_rate),
        loss=losses.MarginLoss(),
        metrics=[metrics.ExactMatch(name="accuracy") if several else "accuracy"],
    )
    return model


def matrix_capsnet(image_shape, classes, config, iterations, steps):
    """The network of the second paper, and the callback that raises its margin.

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
