"""The networks of the experiments, compiled."""

import argparse
import importlib

import keras

from keras_capsules import callbacks, layers, losses, metrics, models, routing

# Routings for `matrix_capsnet`. They compute activations.
ROUTINGS = {
    "em": routing.EMRouting,
    "variational_bayes": routing.VariationalBayesRouting,
}

# Losses for `matrix_capsnet`. For the cross-entropy, Keras scales the activations to a
# sum of 1.
LOSSES = {
    "spread": losses.SpreadLoss,
    "margin": losses.MarginLoss,
    "cross_entropy": keras.losses.SparseCategoricalCrossentropy,
}

# The leaderboard compares every routing of the package, uniform routing with one kernel
# for all children, and a CNN.
CONTENDERS = (*routing.names(), "uniform_shared", "cnn")


def contender_name(text):
    """Checks a flag that is one of `CONTENDERS`, or MODULE:CLASS of a routing."""
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
    """Parses a flag that is a variant of `models.MatrixCapsNet`, or sizes A,B,C,D."""
    if text in models.MatrixCapsNet.variants:
        return text
    sizes = text.split(",")
    if len(sizes) != 4 or not all(size.isdecimal() and int(size) for size in sizes):
        raise argparse.ArgumentTypeError(
            f"expected one of {', '.join(models.MatrixCapsNet.variants)}, or four "
            f"sizes such as 32,4,8,8, received {text}"
        )
    return list(map(int, sizes))  # as JSON reads it from settings.json


def adam(learning_rate, steps):
    """Returns the optimizer of the CNN and of CapsNet, which averages the weights.

    The moving average spans a twentieth of the training, but at most 1,000 steps.

    Args:
        learning_rate: the learning rate schedule.
        steps: number of batches in the whole training.
    """
    window = max(1, min(1_000, steps // 20))
    return keras.optimizers.Adam(
        learning_rate, use_ema=True, ema_momentum=1.0 - 1.0 / window
    )


def warmed_up_adam(steps, epochs, warm_up):
    """Returns the optimizer of the networks with a warm-up, which averages the weights.

    The learning rate rises to 0.003 and decays to zero along a cosine.

    Args:
        steps: number of batches in the whole training.
        epochs: number of epochs in the whole training.
        warm_up: number of batches in which the learning rate rises.
    """
    learning_rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps - warm_up, warmup_target=0.003, warmup_steps=warm_up
    )
    return keras.optimizers.Adam(
        learning_rate, use_ema=True, ema_momentum=half_an_epoch(steps, epochs)
    )


def half_an_epoch(steps, epochs):
    """Returns the momentum of moving averages that span half an epoch.

    Args:
        steps: number of batches in the whole training.
        epochs: number of epochs in the whole training.
    """
    return 1.0 - 1.0 / max(2, steps // epochs // 2)


def accuracy(objects):
    """Returns the accuracy; for several objects, all must be found in an image."""
    return metrics.ExactMatch(name="accuracy") if objects > 1 else "accuracy"


def capsnet(image_shape, classes, steps, learning_rate=0.001, **settings):
    """Builds the network of "Dynamic routing between capsules".

    Args:
        image_shape: shape of an image.
        classes: number of classes.
        steps: number of batches in the whole training.
        learning_rate: learning rate of the first step; it decays to zero.
        **settings: arguments of `models.CapsNet`; by default the sizes of the paper.
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
    learning_rate=0.01,
):
    """Builds the network of "Matrix capsules with EM routing".

    The margin of the spread loss grows during the first half of the training. The
    moving averages of the weights and of the batch normalization both span half an
    epoch, so that the statistics fit the averaged weights.

    Args:
        image_shape: shape of an image.
        classes: number of classes.
        variant: as for `models.MatrixCapsNet`.
        iterations: number of routing iterations.
        steps: number of batches in the whole training.
        epochs: number of epochs in the whole training.
        loss: a name in `LOSSES`.
        coordinate_addition: as for `models.MatrixCapsNet`.
        routed_by: a name in `ROUTINGS`.
        learning_rate: the largest learning rate; it rises first and then decays.

    Returns:
        The network, and a list of the callbacks that its loss needs.
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
        0.0,
        steps,
        alpha=0.01,
        warmup_target=learning_rate,
        warmup_steps=min(200, steps // 10),
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
    """Builds the CNN that capsules are compared with.

    Args:
        image_shape: shape of an image.
        classes: number of classes.
        steps: number of batches in the whole training.
        objects: number of objects in an image. For more than one, labels are multi-hot.
    """
    model = models.BaselineCNN(image_shape, classes)
    learning_rate = keras.optimizers.schedules.CosineDecay(0.001, steps, alpha=0.01)
    model.compile(
        adam(learning_rate, steps),
        loss=f"{'sparse_' if objects == 1 else ''}categorical_crossentropy",
        metrics=[accuracy(objects)],
    )
    return model


def residual(image_shape, classes, routed_by, steps, epochs):
    """Builds a residual network with capsules above it, or with a dense layer.

    Args:
        image_shape: shape of an image.
        classes: number of classes.
        routed_by: the routing of the class capsules, or `"dense"` for global average
            pooling and a dense layer instead of capsules.
        steps: number of batches in the whole training.
        epochs: number of epochs in the whole training.
    """
    backbone = models.residual_backbone(image_shape, blocks=1)
    if routed_by == "dense":
        x = keras.layers.GlobalAveragePooling2D()(backbone.output)
        # The loss needs more precision than scores in half precision have.
        x = keras.layers.Dense(classes, "softmax", dtype="float32")(x)
        model = keras.Model(backbone.input, x)
        loss = "sparse_categorical_crossentropy"
    else:
        model = models.CapsuleClassifier(
            image_shape, classes, backbone=backbone, routing=routed_by
        )
        loss = losses.MarginLoss()
    model.compile(
        warmed_up_adam(steps, epochs, steps // 10), loss, metrics=["accuracy"]
    )
    return model


def convolutional(image_shape, classes, routed_by, steps, epochs, objects=1):
    """Builds four convolutions with batch normalization, and capsules above them.

    The first convolution has strides, so that a step is cheap without a GPU.

    Args:
        image_shape: shape of an image.
        classes: number of classes.
        routed_by: the routing of the class capsules.
        steps: number of batches in the whole training.
        epochs: number of epochs in the whole training.
        objects: number of objects in an image. For more than one, labels are multi-hot.
    """
    momentum = half_an_epoch(steps, epochs)
    images = x = keras.Input(image_shape)
    for filters, size, strides in ((32, 5, 2), (64, 3, 1), (128, 3, 1), (128, 3, 2)):
        x = keras.layers.Conv2D(
            filters, size, strides, use_bias=False, kernel_initializer="he_normal"
        )(x)
        x = keras.layers.BatchNormalization(momentum=momentum)(x)
        x = keras.layers.ReLU()(x)
    model = models.CapsuleClassifier(
        image_shape,
        classes,
        backbone=keras.Model(images, x),
        routing=routed_by,
        objects=objects,
    )
    model.compile(
        warmed_up_adam(steps, epochs, min(1_000, steps // 10)),
        loss=losses.MarginLoss(),
        metrics=[accuracy(objects)],
    )
    return model


def contender(image_shape, classes, routed_by, steps, epochs, objects=1):
    """Builds the network of the leaderboard, with a routing or as a CNN.

    Convolutions are followed by primary capsules and two layers of capsules. All
    contenders have the same convolutions, optimizer and loss. The CNN has dense layers
    instead of capsules, with as many parameters as the network with dynamic routing.

    Args:
        image_shape: shape of an image.
        classes: number of classes.
        routed_by: one of `CONTENDERS`, or MODULE:CLASS of a routing.
        steps: number of batches in the whole training.
        epochs: number of epochs in the whole training.
        objects: number of objects in an image. For more than one, labels are multi-hot.
    """
    momentum = half_an_epoch(steps, epochs)
    images = keras.Input(image_shape)
    if routed_by == "cnn":
        scores = _dense_scores(images, classes)
    else:
        scores = _capsule_scores(images, classes, routed_by, momentum)
    # The loss needs more precision than scores in half precision have.
    scores = keras.layers.Activation("linear", dtype="float32")(scores)
    model = keras.Model(images, scores, name=routed_by.replace(":", "."))
    model.compile(
        warmed_up_adam(steps, epochs, min(200, steps // 10)),
        loss=losses.MarginLoss(),
        metrics=[accuracy(objects)],
    )
    return model


def _features(images):
    x = keras.layers.Conv2D(32, 5, strides=2, activation="relu")(images)
    return keras.layers.Conv2D(64, 3, activation="relu")(x)


def _capsule_scores(images, classes, name, momentum):
    """Returns a score from 0 to 1 for each class, from capsules with a routing."""
    base = "uniform" if name == "uniform_shared" else name
    kind = _routing_named(base)

    def children(x):
        """Returns the inputs of the next layer: poses, and activations if needed."""
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
    """Returns a routing; its moving averages, if it has any, have this momentum."""
    route = _routing_named(name)
    config = route.get_config()
    if "momentum" not in config:
        return route
    return type(route).from_config({**config, "momentum": momentum})


def _routing_named(name):
    """Returns a routing of the package, or an instance of MODULE:CLASS."""
    if ":" not in name:
        return routing.get(name)
    module, kind = name.split(":")
    route = getattr(importlib.import_module(module), kind)()
    if not isinstance(route, routing.Routing):
        raise TypeError(f"{kind} is no routing")
    return route


def _dense_scores(images, classes):
    """Returns scores from dense layers with as many parameters as dynamic routing."""
    like = keras.Model(images, _capsule_scores(images, classes, "dynamic", 0.9))
    x = keras.layers.Conv2D(64, 3, strides=2, activation="relu")(_features(images))
    x = keras.layers.Flatten()(x)
    below = keras.Model(images, x).count_params()
    units = (like.count_params() - below - classes) // (x.shape[1] + 1 + classes)
    x = keras.layers.Dense(units, activation="relu")(x)
    return keras.layers.Dense(classes, activation="sigmoid")(x)
