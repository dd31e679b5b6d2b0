import pickle

import keras
import numpy as np
import pytest
from helpers import random_images, small_capsnet, small_matrix_capsnet

from keras_capsules import layers, models, routing


def small_cnn():
    return models.BaselineCNN((16, 14, 1), 3, filters=(2, 2), units=4)


NETWORKS = {
    "capsnet": small_capsnet,
    "matrix_capsnet": lambda: small_matrix_capsnet(decoder_units=(8,)),
    "cnn": small_cnn,
}


def copies(model, folder):
    """A model after everything that makes another one of its config."""
    model.save(folder / "model.keras")
    return [
        keras.saving.load_model(folder / "model.keras"),
        keras.models.clone_model(model),
        pickle.loads(pickle.dumps(model)),
    ]


def trained(model):
    return [variable.name for variable in model.trainable_variables]


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_frozen_layers_of_a_network_stay_frozen(network, tmp_path):
    model = network()
    all_of_them = trained(model)
    model.layers[0].trainable = False
    assert 0 < len(trained(model)) < len(all_of_them)
    for copy in copies(model, tmp_path):
        assert trained(copy) == trained(model)
        for trainable in (False, True):  # TensorFlow ignores what is so already
            copy.trainable = trainable
        assert trained(copy) == all_of_them


def test_what_is_frozen_within_a_layer_stays_frozen(tmp_path):
    model = small_matrix_capsnet()
    model.primary.conv.trainable = False
    model.conv_capsules_1.routing.trainable = False
    for copy in copies(model, tmp_path):
        assert trained(copy) == trained(model)
        assert copy.primary.trainable and not copy.primary.conv.trainable


def test_a_layer_thawed_within_a_frozen_one_stays_so():
    layer = layers.PrimaryCapsule(2, 4, trainable=False)
    layer.conv.trainable = True
    again = layers.PrimaryCapsule.from_config(layer.get_config())
    assert not again.trainable and again.conv.trainable


def test_a_norm_of_a_routing_stays_frozen():
    route = routing.VariationalBayesRouting()
    route.pose_norm.trainable = False
    again = routing.get(keras.saving.serialize_keras_object(route))
    assert not again.pose_norm.trainable and again.activation_norm.trainable


@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.PrimaryCapsule(2, (4, 4), trainable=False),
        lambda: layers.ConvCapsule(2, routing="em", trainable=False),
        lambda: layers.EMRoutingCapsule(2, trainable=False),
        lambda: layers.DigitCapsule(2, routing="variational_bayes", trainable=False),
    ],
)
def test_a_layer_that_is_made_frozen_trains_nothing_in_a_model(layer):
    for each in (layer(), layer().from_config(layer().get_config())):
        grid = keras.Input((6, 6, 2))
        if isinstance(each, layers.PrimaryCapsule):
            outputs = each(grid)
        else:
            children = layers.PrimaryCapsule(2, (4, 4))(grid)
            if isinstance(each, layers.DigitCapsule):
                poses, activations = children
                poses = keras.layers.Reshape((72, 16))(poses)
                children = poses, keras.layers.Reshape((72,))(activations)
            outputs = each(children)
        model = keras.Model(grid, outputs)
        names = {id(v) for v in each.variables}
        assert not names & {id(v) for v in model.trainable_variables}


def test_a_network_that_is_made_frozen_trains_nothing_in_a_model():
    network = models.BaselineCNN((16, 14, 1), 3, filters=(2, 2), trainable=False)
    images = keras.Input((16, 14, 1))
    assert keras.Model(images, network(images)).trainable_variables == []


@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_a_quantized_network_is_saved(mode, tmp_path):
    model = small_capsnet()
    images, _ = random_images(2)
    model.quantize(mode)
    expected = (
        model.predict_on_batch(images)["scores"],
        model.reconstruct(images, [0, 1]),
    )
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    found = again.predict_on_batch(images)["scores"], again.reconstruct(images, [0, 1])
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(*map(keras.ops.convert_to_numpy, (x, y)), atol=1e-5)


def test_nothing_is_added_to_the_config_of_what_was_not_changed():
    assert "sublayers" not in small_capsnet().get_config()
