"""The networks, compiled as every experiment trains them."""

import keras

from keras_capsules import callbacks, losses, metrics, models, routing

# Routings of the second paper's network, which compute activations.
ROUTINGS = {
    "em": routing.EMRouting,
    "variational_bayes": routing.VariationalBayesRouting,
}

# Losses of the second paper's network. Keras makes the activations sum to 1 for the
# cross-entropy.
LOSSES = {
    "spread": losses.SpreadLoss,
    "margin": losses.MarginLoss,
    "cross_entropy": keras.losses.SparseCategoricalCrossentropy,
}


def adam(learning_rate, steps):
    """The optimizer of the CNN and of CapsNet, which averages the weights.

    The average is over a twentieth of the training, but a thousand steps at most.

    Args:
        learning_rate: the schedule.
        steps: batches in the whole training.
    """
    window = max(1, min(1_000, steps // 20))
    return keras.optimizers.Adam(
        learning_rate, use_ema=True, ema_momentum=1.0 - 1.0 / window
    )


def accuracy(objects):
    """The metric that tells whether all `objects` of an image are found."""
    return metrics.ExactMatch(name="accuracy") if objects > 1 else "accuracy"


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
    model.compile(
        adam(learning_rate, steps),
        loss=losses.MarginLoss(),
        metrics=[accuracy(model.objects)],
    )
    return model


def matrix_capsnet(
    image_shape,
    classes,
    variant,
    iterations,
    steps,
    epochs,
    loss="spread",
    coordinate_addition=True,
    routed_by="em",
):
    """The network of the second paper, and the callbacks of its loss.

    The margin of the spread loss grows over the first half of the training, whatever
    its length. Weights and the statistics of batch normalization are averaged over half
    an epoch. Statistics of other steps would not fit the weights.

    Args:
        image_shape: shape of an image.
        classes: number of classes.
        variant: as for `models.MatrixCapsNet`.
        iterations: routing iterations.
        steps: batches in the whole training.
        epochs: epochs in the whole training.
        loss: a name in `LOSSES`.
        coordinate_addition: as for `models.MatrixCapsNet`.
        routed_by: a name in `ROUTINGS`.
    """
    momentum = 1.0 - 1.0 / max(2, steps // epochs // 2)
    model = models.MatrixCapsNet(
        image_shape,
        classes,
        variant,
        coordinate_addition=coordinate_addition,
        routing=ROUTINGS[routed_by](iterations, momentum=momentum),
    )
    learning_rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps, alpha=0.01, warmup_target=0.01, warmup_steps=min(200, steps // 10)
    )
    model.compile(
        keras.optimizers.Adam(learning_rate, use_ema=True, ema_momentum=momentum),
        loss=LOSSES[loss](),
        metrics=["accuracy"],
    )
    if loss != "spread":
        return model, []
    return model, [callbacks.SpreadMarginSchedule(steps=max(1, steps // 16))]


def baseline_cnn(image_shape, classes, steps, objects=1):
    """The CNN that capsules are compared with.

    Args:
        image_shape: shape of an image.
        classes: number of classes.
        steps: batches in the whole training.
        objects: how many objects an image shows; labels of several are multi-hot.
    """
    model = models.BaselineCNN(image_shape, classes)
    learning_rate = keras.optimizers.schedules.CosineDecay(0.001, steps, alpha=0.01)
    model.compile(
        adam(learning_rate, steps),
        loss=f"{'sparse_' if objects == 1 else ''}categorical_crossentropy",
        metrics=[accuracy(objects)],
    )
    return model
