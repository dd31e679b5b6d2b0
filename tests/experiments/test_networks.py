import argparse

import keras
import numpy as np
import pytest

from experiments import networks
from keras_capsules import models, routing
from keras_capsules.layers import CapsuleLayer


@pytest.mark.parametrize("steps, window", [(10, 1), (400, 20), (90_000, 1_000)])
def test_weights_are_averaged_over_a_part_of_the_training(steps, window):
    optimizer = networks.adam(0.001, steps)
    assert optimizer.use_ema
    assert optimizer.ema_momentum == pytest.approx(1 - 1 / window)


@pytest.mark.parametrize(("objects", "labels"), [(1, [2, 0]), (2, [[0, 1, 1]] * 2)])
def test_the_cnn_learns_one_object_or_several(objects, labels):
    model = networks.baseline_cnn((8, 8, 1), 3, 40, objects)
    images, labels = np.random.rand(2, 8, 8, 1), np.array(labels)
    model.fit(images, labels, epochs=40, verbose=0)
    results = model.evaluate(images, labels, verbose=0, return_dict=True)
    assert results["accuracy"] == 1.0


def test_only_the_spread_loss_has_a_margin_that_grows():
    settings = ((20, 20, 1), 5, (2, 2, 2, 2), 2, 16, 2)
    _, (margin,) = networks.matrix_capsnet(*settings)
    assert margin.steps == 1
    for name in ("margin", "cross_entropy"):
        model, none = networks.matrix_capsnet(*settings, loss=name)
        assert none == [] and isinstance(model.loss, networks.LOSSES[name])
    model, _ = networks.matrix_capsnet(*settings, coordinate_addition=False)
    assert not model.class_capsules.coordinate_addition
    for name, kind in networks.ROUTINGS.items():
        model, _ = networks.matrix_capsnet(*settings, routed_by=name)
        assert type(model.routing) is kind and model.routing.iterations == 2
    assert isinstance(model.optimizer, keras.optimizers.Adam)


@pytest.mark.parametrize("routed_by", networks.ROUTINGS)
def test_weights_and_statistics_are_averaged_over_the_same_steps(routed_by):
    model, _ = networks.matrix_capsnet(
        (20, 20, 1), 5, (2, 2, 2, 2), 1, steps=40, epochs=4, routed_by=routed_by
    )
    assert model.optimizer.ema_momentum == pytest.approx(1 - 1 / 5)
    for layer in model.capsule_layers:
        assert layer.routing.momentum == model.optimizer.ema_momentum
        if routed_by == "em":
            assert layer.routing.cost_norm.momentum == layer.routing.momentum


@pytest.mark.parametrize("name", networks.CONTENDERS)
def test_every_contender_scores_from_0_to_1(name):
    model = networks.contender((20, 24, 2), 3, name, steps=40, epochs=4, objects=2)
    scores = keras.ops.convert_to_numpy(model(np.random.rand(4, 20, 24, 2)))
    assert scores.shape == (4, 3) and scores.min() >= 0.0 and scores.max() <= 1.0
    assert model.optimizer.ema_momentum == pytest.approx(1 - 1 / 5)
    capsules = [x for x in model.layers if isinstance(x, CapsuleLayer)]
    assert [layer.name for layer in capsules] == ["hidden", "classes"] * (name != "cnn")
    for layer in capsules:
        base = name.removesuffix("_shared")
        assert type(layer.routing) is type(routing.get(base))
        assert layer.share_kernel == (base != name)
        momentum = getattr(layer.routing, "momentum", model.optimizer.ema_momentum)
        assert momentum == model.optimizer.ema_momentum


def test_the_cnn_of_the_leaderboard_has_as_many_parameters():
    counts = [
        networks.contender((28, 28, 1), 10, name, 40, 4).count_params()
        for name in ("dynamic", "cnn")
    ]
    assert counts[1] == pytest.approx(counts[0], rel=0.01)


def test_a_contender_of_ones_own():
    name = "keras_capsules.routing:DynamicRouting"
    assert networks.contender_name(name) == name
    own, ours = (
        networks.contender((20, 24, 2), 3, kind, steps=40, epochs=4)
        for kind in (name, "dynamic")
    )
    assert own.count_params() == ours.count_params()
    own.train_on_batch(np.zeros((2, 20, 24, 2)), np.array([0, 1]))
    wrongs = "dynamics", "keras_capsules.routing:Dynamic", "no_module:Routing"
    for wrong in (*wrongs, "collections:OrderedDict"):
        with pytest.raises(argparse.ArgumentTypeError, match=f"received {wrong}"):
            networks.contender_name(wrong)


def test_variants_of_matrix_capsules():
    assert networks.matrix_variant("small") == "small"
    assert networks.matrix_variant("32,4,8,8") == [32, 4, 8, 8]
    for wrong in ("large", "32,4,8", "32,4,8,0", "32,4,8,x"):
        with pytest.raises(argparse.ArgumentTypeError, match=f"received {wrong}"):
            networks.matrix_variant(wrong)


def test_a_residual_network_with_capsules_or_a_dense_layer():
    images, labels = np.zeros((2, 16, 16, 3)), np.array([0, 1])
    shape = images.shape[1:]
    capsules, dense = (
        networks.residual(shape, 3, routed_by, steps=40, epochs=4)
        for routed_by in ("inverted_attention", "dense")
    )
    assert isinstance(capsules, models.CapsuleClassifier)
    backbone = models.residual_backbone(shape, blocks=1).count_params()
    assert dense.count_params() == backbone + (64 + 1) * 3
    for model in (capsules, dense):
        model.train_on_batch(images, labels)
    assert capsules.predict(images, verbose=0)["scores"].shape == (2, 3)
    assert dense.predict(images, verbose=0).shape == (2, 3)


@pytest.mark.parametrize(("objects", "labels"), [(1, [2, 0]), (2, [[0, 1, 1]] * 2)])
def test_capsules_above_convolutions(objects, labels):
    images = np.random.default_rng(0).uniform(size=(2, 28, 28, 1))
    model = networks.convolutional(
        images.shape[1:], 3, "dynamic", steps=400, epochs=40, objects=objects
    )
    assert model.objects == objects and model.class_capsules.routing.iterations == 3
    assert model.backbone.output_shape == (None, 3, 3, 128)
    found = [x for x in model.backbone.layers if hasattr(x, "momentum")]
    assert (
        [x.momentum for x in found] == [model.optimizer.ema_momentum] * 4 == [0.8] * 4
    )
    history = model.fit(images, np.array(labels), epochs=20, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]
