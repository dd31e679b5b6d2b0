"""The networks, compiled as every experiment trains them."""

import argparse
import importlib

import keras

from keras_capsules import callbacks, layers, losses, metrics, models, routing

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

# What the leaderboard compares in one network: every routing of the package, uniform
# routing with one kernel for all children, and no capsules at all.
CONTENDERS = (*routing.names(), "uniform_shared", "cnn")


def contender_name(text):
    """The type of a flag that is one of `CONTENDERS`, or MODULE:CLASS of a routing."""
    if text not in CONTENDERS:
        try:
            _routing_named(text)
        except (AttributeError, ImportError, TypeError, ValueError) as error:
            raise argparse.ArgumentTypeError(
                f"expected one of {', '.join(CONTENDERS)}, or MODULE:CLASS of your own "
                f"routing, received {text} ({error})"
            ) from error
    return text


def matrix_variant(text):
    """The type of a flag that is a variant of `models.MatrixCapsNet`, or A,B,C,D."""
    if text in models.MatrixCapsNet.variants:
        return text
    sizes = text.split(",")
    if len(sizes) != 4 or not all(size.isdecimal() and int(size) for size in sizes):
        raise argparse.ArgumentTypeError(
            f"expected one of {', '.join(models.MatrixCapsNet.variants)}, or four "
            f"sizes such as 32,4,8,8, received {text}"
        )
    return list(map(int, sizes))  # as settings.json has them


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


def half_an_epoch(steps, epochs):
    """The momentum of averages over half an epoch.

    Args:
        steps: batches in the whole training.
        epochs: epochs in the whole training.
    """
    return 1.0 - 1.0 / max(2, steps // epochs // 2)


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
    learning_rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
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
    momentum = half_an_epoch(steps, epochs)
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


def contender(image_shape, classes, name, steps, epochs, objects=1):
    """The network of the leaderboard, two layers of capsules, with one of the routings.

    All contenders have the same convolutions, the same optimizer and the same loss. The
    CNN has dense layers above them, with as many parameters as dynamic routing has.

    Args:
        image_shape: shape of an image.
        classes: number of classes.
        name: as `contender_name` takes it.
        steps: batches in the whole training.
        epochs: epochs in the whole training.
        objects: how many objects an image shows; labels of several are multi-hot.
    """
    momentum = half_an_epoch(steps, epochs)
    images = keras.Input(image_shape)
    if name == "cnn":
        scores = _dense_scores(images, classes)
    else:
        scores = _capsule_scores(images, classes, name, momentum)
    # In half precision the loss would be as coarse as the scores.
    scores = keras.layers.Activation("linear", dtype="float32")(scores)
    model = keras.Model(images, scores, name=name.replace(":", "."))
    warm_up = min(200, steps // 10)
    learning_rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps - warm_up, warmup_target=0.003, warmup_steps=warm_up
    )
    model.compile(
        keras.optimizers.Adam(learning_rate, use_ema=True, ema_momentum=momentum),
        loss=losses.MarginLoss(),
        metrics=[accuracy(objects)],
    )
    return model


def _features(images):
    x = keras.layers.Conv2D(32, 5, strides=2, activation="relu")(images)
    return keras.layers.Conv2D(64, 3, activation="relu")(x)


def _capsule_scores(images, classes, name, momentum):
    """A score from 0 to 1 for each class, from capsules with one of the routings."""
    base = "uniform" if name == "uniform_shared" else name
    kind = _routing_named(base)

    def children(x):
        """What the layer above is given: poses, and activations if it needs them."""
        if isinstance(x, (tuple, list)):
            return layers.PoseNormalization()(x)
        if kind.needs_activations:
            return layers.PoseNormalization()(x), layers.CapsuleLength()(x)
        return x

    x = layers.PrimaryCapsule(8, 8, kernel_size=3, strides=2)(_features(images))
    for capsules, size, layer in ((16, 8, "hidden"), (classes, 16, "classes")):
        route = _routing(base, momentum)
        x = layers.DigitCapsule(
            capsules, size, routing=route, share_kernel=base != name, name=layer
        )(children(x))
    if kind.computes_activations:
        return x[1]
    if not kind.length_is_activation:
        score = keras.layers.Dense(1, activation="sigmoid")(x)
        return keras.layers.Reshape((classes,))(score)
    return layers.CapsuleLength()(x)


def _routing(name, momentum):
    """A routing that averages its statistics, if it has any, with this momentum."""
    route = _routing_named(name)
    config = route.get_config()
    if "momentum" not in config:
        return route
    return type(route).from_config({**config, "momentum": momentum})


def _routing_named(name):
    """A routing of the package, or the one of MODULE:CLASS."""
    if ":" not in name:
        return routing.get(name)
    module, kind = name.split(":")
    route = getattr(importlib.import_module(module), kind)()
    if not isinstance(route, routing.Routing):
        raise TypeError(f"{kind} is no routing")
    return route


def _dense_scores(images, classes):
    """The same from dense layers with as many parameters."""
    like = keras.Model(images, _capsule_scores(images, classes, "dynamic", 0.9))
    x = keras.layers.Conv2D(64, 3, strides=2, activation="relu")(_features(images))
    x = keras.layers.Flatten()(x)
    below = keras.Model(images, x).count_params()
    units = (like.count_params() - below - classes) // (x.shape[1] + 1 + classes)
    x = keras.layers.Dense(units, activation="relu")(x)
    return keras.layers.Dense(classes, activation="sigmoid")(x)
