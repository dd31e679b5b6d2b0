import inspect
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers import close, float32, gradients, once

from keras_capsules import layers, routing

ROOT = Path(__file__).parents[2]


def test_get_by_name_instance_and_config():
    five = routing.DynamicRouting(iterations=5, loop="unroll", stop_gradient=True)
    assert routing.get("dynamic").iterations == 3
    assert routing.get(five) is five
    again = routing.get(keras.saving.serialize_keras_object(five))
    assert again.get_config() == five.get_config()


@pytest.mark.parametrize(
    "identifier",
    [
        "no-such-routing",
        None,
        3,
        keras.layers.Dense(3),
        {"module": "os", "class_name": "system", "config": {}},
        keras.saving.serialize_keras_object(keras.layers.Flatten()),
    ],
)
def test_get_rejects(identifier):
    with pytest.raises(ValueError, match="`routing` must be one of") as error:
        routing.get(identifier)
    assert isinstance(identifier, dict) == ("is imported" in str(error.value))


def test_names_are_the_words_of_the_classes():
    assert {"dynamic", "em", "variational_bayes"} <= set(routing.names())
    for name in routing.names():
        words = type(routing.get(name)).__name__.lower()
        assert words == name.replace("_", "") + "routing"


@pytest.mark.parametrize("name", routing.names())
def test_every_argument_is_an_attribute_and_in_the_config(name):
    route = routing.get(name)
    parameters = inspect.signature(type(route).__init__).parameters.values()
    arguments = [p.name for p in parameters if p.name not in ("self", "kwargs")]
    config = route.get_config()
    assert arguments
    for argument in arguments:
        assert config[argument] == getattr(route, argument), argument
    # What the config holds beside them belongs to any routing.
    assert config.keys() == {*arguments, *routing.Routing().get_config()}


def network(name, pose_shape):
    """A layer of each kind, one on top of the other, all with the same routing."""
    images = keras.Input((9, 10, 2))
    x = layers.PrimaryCapsule(3, pose_shape, kernel_size=5, strides=2)(images)
    x = layers.ConvCapsule(4, kernel_size=2, routing=name)(x)
    matrices = not isinstance(pose_shape, int)
    x = layers.EMRoutingCapsule(5, None, matrices, routing=name)(x)
    if not matrices:
        x = layers.DigitCapsule(6, 7, routing=name)(x)
    return keras.Model(images, x)


def routings_and_poses():
    """Matrices need activations, vectors may do without."""
    for name in routing.names():
        yield name, 4
        if routing.get(name).computes_activations:
            yield name, (3, 4)


@pytest.mark.parametrize(("name", "pose_shape"), routings_and_poses())
def test_every_routing_plugs_into_every_layer(name, pose_shape, tmp_path):
    model = network(name, pose_shape)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(4, 9, 10, 2)).astype("float32")
    outputs = keras.tree.flatten(model(images))
    shape = (6, 7) if isinstance(pose_shape, int) else (5, *pose_shape)
    assert tuple(outputs[0].shape) == (4, *shape)
    computes = routing.get(name).computes_activations
    assert [tuple(x.shape) for x in outputs[1:]] == computes * [(4, shape[0])]

    model.compile(
        # Adam takes a step with whatever has a gradient.
        keras.optimizers.Adam(0.01, epsilon=1e-30),
        loss=["mse"] * len(outputs),
        run_eagerly=keras.backend.backend() == "tensorflow",  # a step needs no graph
    )
    before = [keras.ops.convert_to_numpy(v).copy() for v in model.trainable_variables]
    model.train_on_batch(images, [rng.normal(size=x.shape) for x in outputs])
    for variable, old in zip(model.trainable_variables, before, strict=True):
        assert (keras.ops.convert_to_numpy(variable) != old).any(), variable.path

    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    found, expected = (keras.tree.flatten(m(images)) for m in (again, model))
    for a, b in zip(found, expected, strict=True):
        close(a, b)


@pytest.mark.parametrize("shape", [(2, 5), (1, 6), (3, 6)])
def test_activations_are_those_of_the_poses(shape):
    poses, kernel = np.ones((2, 6, 4, 4)), np.ones((6, 3, 4, 4))
    arrays = (x.astype("float32") for x in (poses, kernel, np.ones(shape)))
    with pytest.raises(ValueError, match="`activations` must have the shape"):
        routing.EMRouting()(*arrays)


@pytest.mark.parametrize("page", ["README.md", "docs/routings.md"])
def test_a_table_has_a_row_for_each_routing(page):
    rows = re.findall(
        r'^\| `(\w+)` \| `"(\w+)"` \|(.*)\|$', (ROOT / page).read_text(), re.M
    )
    expected = {type(routing.get(name)).__name__: name for name in routing.names()}
    assert {cls: name for cls, name, _ in rows} == expected
    for cls, _, cells in rows:
        assert all(cell.strip() for cell in cells.split(" | ")), cls


def test_the_routing_chooses_the_width_of_the_default_kernel():
    class Narrow(routing.DynamicRouting):
        def kernel_stddev(self, kernel_shape):
            assert kernel_shape == (36, 4, 3, 5)
            return 0.01

    layer = layers.ConvCapsule(4, 5, kernel_size=3, routing=Narrow())
    layer.build((None, 6, 6, 4, 3))
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    assert kernel.std() == pytest.approx(0.01, rel=0.1)


# Of three sentences of at most seven words the second is full.
MASK = np.array([[1, 1, 1, 1, 0, 0, 0], [1] * 7, [0, 1, 1, 0, 1, 1, 0]], "bool")


def total(outputs):
    """A weighted sum of all outputs, so that one gradient is that of each."""
    outputs = keras.tree.flatten(outputs)
    weights = (np.random.default_rng(1).normal(size=x.shape[1:]) for x in outputs)
    pairs = zip(outputs, weights, strict=True)
    return sum(
        keras.ops.sum(x * keras.ops.convert_to_tensor(w, x.dtype)) for x, w in pairs
    )


@pytest.mark.parametrize("name", routing.names())
def test_a_padded_batch_gives_what_the_unpadded_one_gives(name):
    layer = layers.DigitCapsule(3, 5, routing=name, share_kernel=True)
    (x,) = float32(np.random.default_rng(0).normal(size=(3, 7, 4)))
    layer.build((None, None, 4))
    rng = np.random.default_rng(2)
    for variable in layer.routing.trainable_variables:
        variable.assign(0.3 * rng.normal(size=variable.shape))
    padded = layer(np.where(MASK[..., None], x, np.inf), mask=MASK)
    (steep,) = gradients(lambda x: total(layer(x, mask=MASK)), x)
    assert (steep[~MASK] == 0.0).all()
    for index, there in enumerate(MASK):
        alone = x[None, index, there]
        outputs = zip(*map(keras.tree.flatten, (layer(alone), padded)), strict=True)
        for expected, found in outputs:
            close(found[index], expected[0])
        (expected,) = gradients(lambda x: total(layer(x)), alone)
        close(steep[index, there], expected[0], atol=1e-5)


@once
@pytest.mark.parametrize("name", routing.names())
def test_a_trace_shows_no_weights_of_masked_children(name):
    layer = layers.DigitCapsule(3, 5, routing=name)
    (x,) = float32(np.random.default_rng(0).normal(size=(3, 7, 4)))
    weights = keras.ops.convert_to_numpy(layer.trace(x, mask=MASK)["weights"])
    masked = np.broadcast_to(~MASK[None, :, None], weights.shape)
    assert (weights[masked] == 0.0).all() and (weights[~masked] != 0.0).all()


@once
@pytest.mark.parametrize("name", routing.names())
def test_an_image_whose_children_are_all_masked_leaves_everything_finite(name):
    layer = layers.DigitCapsule(3, 5, routing=name)
    (x,) = float32(np.random.default_rng(0).normal(size=(3, 7, 4)))
    mask = MASK & np.array([[True], [False], [True]])
    outputs = keras.tree.flatten(layer(x, mask=mask))
    (steep,) = gradients(lambda x: total(layer(x, mask=mask)), x)
    for array in (*map(keras.ops.convert_to_numpy, outputs), steep):
        assert np.isfinite(array).all()


@pytest.mark.parametrize("name", routing.names())
def test_poses_and_kernel_of_different_precision(name):
    rng = np.random.default_rng(0)
    poses, kernel = float32(
        rng.normal(size=(2, 6, 2, 3)), rng.normal(size=(6, 4, 3, 5))
    )
    ones, route = np.ones((2, 6), "float32"), routing.get(name)
    half = kernel.astype("float16")
    found, expected = (
        keras.tree.flatten(route(poses, matrices, ones))[0]
        for matrices in (half, half.astype("float32"))
    )
    close(found, expected)


def test_a_mask_of_another_shape_is_refused():
    route, (poses, kernel) = (
        routing.DynamicRouting(),
        float32(np.ones((2, 7, 1, 4)), np.ones((7, 3, 4, 5))),
    )
    with pytest.raises(ValueError, match="`mask` must have the shape"):
        route(poses, kernel, mask=MASK[:2, :6])
