import csv
import warnings

import keras
import numpy as np
import pytest
from helpers import random_images, small_capsnet, small_matrix_capsnet

from keras_capsules import layers, models
from keras_capsules.callbacks import RoutingMonitor, routing_monitor
from keras_capsules.callbacks.routing_monitor import _statistics

QUANTITIES = (
    "activation_mean",
    "activation_std",
    "dead",
    "saturated",
    "effective_parents",
    "last_change",
)


def trace(weights, activations):
    """A trace of these weights `(iterations, batch, parents, children)`."""
    return {"weights": np.array(weights), "activations": np.array(activations)}


def test_children_that_chose_and_children_that_did_not():
    even, chosen = np.full((4, 2), 0.25), np.eye(4)[:, :2]
    found = _statistics(trace([[even], [even]], np.zeros((2, 1, 4))))
    assert found["effective_parents"] == 1.0 and found["last_change"] == 0.0
    found = _statistics(trace([[even], [0.1 * chosen]], np.zeros((2, 1, 4))))
    assert found["effective_parents"] == 0.25 and found["last_change"] == 1.0


def test_negative_weights_count_by_their_size():
    weights = [[[[3.0], [-3.0], [0.0], [0.0]]]]
    found = _statistics(trace(weights, np.zeros((1, 1, 4))))
    assert found["effective_parents"] == 0.5


def test_the_last_of_three_iterations():
    weights = np.array([0.0, 3.0, 4.0])[:, None, None, None] * np.ones((1, 1, 2, 5))
    found = _statistics(trace(weights, np.zeros((3, 1, 2))))
    assert found["last_change"] == pytest.approx(0.25)


def test_activations_are_those_of_the_last_iteration():
    activations = [[[0.5, 0.5, 0.5, 0.5]], [[0.0, 0.005, 0.995, 1.0]]]
    found = _statistics(trace(np.ones((2, 1, 4, 3)), activations))
    assert found["dead"] == found["saturated"] == 0.5
    assert found["activation_mean"] == pytest.approx(0.5)
    assert found["activation_std"] == pytest.approx(np.std(activations[1]))


def test_a_child_without_weight_has_no_parents():
    weights = np.zeros((1, 1, 4, 2))
    weights[..., 0, 0] = 1.0
    found = _statistics(trace(weights, np.ones((1, 1, 4))))
    assert found["effective_parents"] == 0.25
    found = _statistics(trace(0.0 * weights, np.ones((1, 1, 4))))
    assert found["effective_parents"] == 1.0


def test_lengths_where_no_activations_are_computed():
    parents = np.zeros((1, 1, 2, 1, 2))
    parents[0, 0, 1, 0] = [0.6, 0.8]
    found = _statistics({"weights": np.ones((1, 1, 2, 3)), "parents": parents})
    assert found["activation_mean"] == found["dead"] == found["saturated"] == 0.5


@pytest.mark.parametrize("network", [small_capsnet, small_matrix_capsnet])
def test_a_network_shows_each_of_its_layers(network, tmp_path):
    model = network()
    images, labels = random_images(6, model.image_shape)
    monitor = RoutingMonitor(images[:3])
    file = keras.callbacks.CSVLogger(tmp_path / "history.csv")
    history = model.fit(
        images, labels, epochs=2, verbose=0, callbacks=[monitor, file]
    ).history
    names = [f"{x.name}_{q}" for x in model.capsule_layers for q in QUANTITIES]
    assert set(names) <= set(history)
    measured = monitor.measure(model)
    assert list(measured) == [layer.name for layer in model.capsule_layers]
    with open(tmp_path / "history.csv", newline="") as lines:
        rows = list(csv.DictReader(lines))
    for name in names:
        assert len(history[name]) == 2
        assert float(rows[1][name]) == pytest.approx(history[name][1])
    for layer, found in measured.items():
        for name, value in found.items():
            assert 0.0 <= value <= 1.0, name
            assert history[f"{layer}_{name}"][1] == pytest.approx(value, abs=1e-5)


def test_averages_of_the_weights_are_measured():
    model = small_capsnet()
    images, labels = random_images(6, model.image_shape)
    optimizer = keras.optimizers.SGD(1.0, use_ema=True, ema_momentum=0.5)
    model.compile(optimizer, loss=model.loss)
    raw, monitor = {}, RoutingMonitor(images)
    raws = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_: raw.update(monitor.measure(model)["class_capsules"])
    )
    logs = model.fit(
        images, labels, 3, epochs=1, verbose=0, callbacks=[monitor, raws]
    ).history
    # `fit` ends with the averages.
    averages = monitor.measure(model)["class_capsules"]
    for name, value in averages.items():
        assert logs[f"class_capsules_{name}"][0] == pytest.approx(value, abs=1e-5)
    assert raw["activation_std"] != pytest.approx(averages["activation_std"], abs=1e-4)


@pytest.mark.filterwarnings("error:The structure of `inputs`")
def test_layers_of_sequential_and_functional_models():
    inputs = keras.Input((6, 8))
    hidden = layers.DigitCapsule(4, 5, name="hidden")(inputs)
    functional = keras.Model(inputs, layers.DigitCapsule(2, 3, name="top")(hidden))
    x = np.random.default_rng(0).normal(size=(3, 6, 8)).astype("float32")
    found = RoutingMonitor(x).measure(functional)
    assert list(found) == ["hidden", "top"]
    trace = functional.get_layer("top").trace(functional.get_layer("hidden")(x))
    assert found["top"] == pytest.approx(_statistics(trace), rel=1e-5)
    sequential = keras.Sequential([inputs, *functional.layers[1:]])
    again = RoutingMonitor(x).measure(sequential)
    assert list(again) == list(found)
    for name, quantities in found.items():
        assert again[name] == pytest.approx(quantities)


def test_a_layer_that_carries_nothing_is_named_once():
    model = small_matrix_capsnet()
    images, _ = random_images(4, model.image_shape)
    cost = model.conv_capsules_1.routing.beta_a
    cost.assign(1e4 + 0.0 * cost)
    monitor = RoutingMonitor(images)
    monitor.set_model(model)
    with pytest.warns(UserWarning, match="of conv_capsules_1 carry no info") as said:
        for epoch in range(2):
            monitor.on_epoch_end(epoch, {})
    named = [w for w in said if "conv_capsules_1 carry" in str(w.message)]
    assert len(named) == 1 and "after epoch 1 they are 1.000" in str(named[0].message)


@pytest.mark.parametrize("route", ["dynamic", "inverted_attention"])
def test_lengths_that_say_nothing_give_no_warning(route, monkeypatch):
    monkeypatch.setattr(routing_monitor, "_DEVIATION", 1.0)
    model = small_capsnet(routing=route)
    images, _ = random_images(4)
    monitor = RoutingMonitor(images)
    monitor.set_model(model)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        monitor.on_epoch_end(0, {})
    told = ["class_capsules carry no information" in str(w.message) for w in said]
    assert any(told) == (route == "dynamic")


def test_models_without_capsule_layers():
    images, labels = random_images(4, (16, 14, 1))
    model = models.BaselineCNN((16, 14, 1), 3, filters=(2, 2), units=4)
    model.compile("adam", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match=r"capsule layers\. Received: BaselineCNN"):
        model.fit(images, labels, verbose=0, callbacks=[RoutingMonitor(images)])
    with pytest.raises(ValueError, match="Received: Sequential"):
        RoutingMonitor(images).measure(keras.Sequential([keras.layers.Flatten()]))


def test_a_data_set_is_no_batch():
    with pytest.raises(ValueError, match=r"`images` must be one batch.*Received: list"):
        RoutingMonitor([["a"]])
    from keras_capsules import datasets

    with pytest.raises(ValueError, match=r"Received: .*Dataset"):
        RoutingMonitor(datasets.digits().test.batch(4))
