"""One code on three backends: same weights, same numbers, in any precision."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers import (
    random_images,
    small_capsnet,
    small_matrix_capsnet,
)

from keras_capsules import datasets, export
from keras_capsules.routing import EMRouting

BACKEND = keras.backend.backend()
NETWORKS = {"capsnet": small_capsnet, "matrix_capsnet": small_matrix_capsnet}

# Another backend takes over a network, says what it sees and learns from it, trains it
# on and saves it. A step of gradient descent tells the gradients.
OTHER = """
import keras, numpy as np, sys
import keras_capsules
for name in sys.argv[1:]:
    with np.load(f"{name}.npz") as file:
        images, labels = file["images"], file["labels"]
    model = keras.saving.load_model(f"{name}.keras")
    before = model.predict(images, verbose=0)
    model.train_on_batch(images, labels)
    weights = model.get_weights()
    model.fit(images, labels, epochs=2, verbose=0)
    model.save(f"{name}_{keras.backend.backend()}.keras")
    after = model.predict(images, verbose=0)
    np.savez(
        f"{name}_{keras.backend.backend()}.npz",
        **{f"weights_{index}": value for index, value in enumerate(weights)},
        **{f"before_{key}": value for key, value in before.items()},
        **{f"after_{key}": value for key, value in after.items()},
    )
"""


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """A folder with networks, what they say of images, and a step of their weights."""
    folder, said = tmp_path_factory.mktemp("networks"), {}
    for name, network in NETWORKS.items():
        model = network(decoder_units=(8,))
        images, labels = random_images(6, model.image_shape)
        model.compile(keras.optimizers.SGD(1.0), loss=model.loss)
        model.save(folder / f"{name}.keras")
        np.savez(folder / f"{name}.npz", images=images, labels=labels)
        outputs, weights = model.predict(images, verbose=0), model.get_weights()
        model.train_on_batch(images, labels)
        said[name] = images, outputs, weights, model.get_weights()
    return folder, said


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow starts the others")
@pytest.mark.parametrize("other", ["jax", "torch"])
def test_another_backend_goes_on_with_a_network(ours, other):
    if importlib.util.find_spec(other) is None:
        pytest.skip(f"{other} is not installed")
    import tensorflow as tf

    folder, said = ours
    subprocess.run(
        [sys.executable, "-c", OTHER, *NETWORKS],
        cwd=folder,
        env={**os.environ, "KERAS_BACKEND": other},
        check=True,
    )
    for name, (images, outputs, before, after) in said.items():
        with np.load(folder / f"{name}_{other}.npz") as file:
            theirs = dict(file)
        for key, value in outputs.items():
            np.testing.assert_allclose(theirs[f"before_{key}"], value, atol=1e-4)
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            gradient = old - theirs[f"weights_{index}"]
            np.testing.assert_allclose(gradient, old - new, rtol=1e-4, atol=1e-4)

        trained = keras.saving.load_model(folder / f"{name}_{other}.keras")
        outputs = trained(images)
        if name == "capsnet":  # an export takes long, and of each is tested elsewhere
            path = export.export_saved_model(trained, folder / other / name)
            served = tf.saved_model.load(path).signatures["serving_default"]
            outputs = served(images=tf.constant(images))
        for key in ("scores", "poses"):
            np.testing.assert_allclose(outputs[key], theirs[f"after_{key}"], atol=1e-4)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_a_seed_always_gives_the_same_weights(network):
    def train():
        keras.utils.set_random_seed(7)
        # What is random is what goes in.
        settings = {"routing": EMRouting(1)} if network is small_matrix_capsnet else {}
        model = network(decoder_units=(8,), **settings)
        model.run_eagerly = False
        images, labels = random_images(24, model.image_shape)
        dataset = shuffled_and_shifted(images, labels)
        model.fit(dataset, epochs=2, verbose=0)
        return model.get_weights()

    for first, second in zip(train(), train(), strict=True):
        np.testing.assert_array_equal(first, second)


def shuffled_and_shifted(images, labels):
    """Batches in an order and with shifts that differ from epoch to epoch."""
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(24, seed=7)
    return datasets.random_shift(dataset, 2, seed=7).batch(8)


ACCURACY = """
import json, sys
import keras, numpy as np
sys.path.insert(0, sys.argv[1])
from helpers import POLICIES, all_examples
from keras_capsules import datasets, losses, models

train, *held_out = (all_examples(part) for part in datasets.digits())
tests = map(np.concatenate, zip(*held_out, strict=True))
(images, labels), (test_images, test_labels) = (
    (images[:, ::2, ::2], labels) for images, labels in (train, tests)
)
whole = len(images) // 32 * 32  # a smaller last batch would be compiled on its own
accuracy = {}
# Without a GPU PyTorch takes four times as long for float16 as for bfloat16.
for policy in POLICIES[:2] if keras.backend.backend() == "torch" else POLICIES:
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    model = models.CapsNet((14, 14, 1), 10, filters=32, kernel_size=5,
                           primary_capsules=8, decoder_units=(32,))
    model.compile(
        keras.optimizers.Adam(0.002), losses.MarginLoss(), metrics=["accuracy"]
    )
    model.fit(images[:whole], labels[:whole], 32, epochs=6, verbose=0)
    results = model.evaluate(
        test_images, test_labels, 180, verbose=0, return_dict=True
    )
    accuracy[policy] = results["accuracy"]
print(json.dumps(accuracy))
"""


def test_low_precision_is_as_accurate_on_digits():
    accuracy = results_of(ACCURACY, xla_flags="")
    assert accuracy["float32"] > 0.95
    for policy in accuracy:
        assert accuracy[policy] == pytest.approx(accuracy["float32"], abs=0.005)


def results_of(program, xla_flags):
    """What a program prints last, in a process of its own."""
    result = subprocess.run(
        [sys.executable, "-c", program, Path(__file__).parents[1]],
        env={**os.environ, "XLA_FLAGS": xla_flags},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


# The same training on one device and on two, with a margin that rises.
DEVICES = """
import contextlib, json, sys
import keras, tensorflow as tf
sys.path.insert(0, sys.argv[1])
from helpers import compiled, random_images, small_capsnet
from keras_capsules import callbacks, losses
from keras_capsules.routing import EMRouting

if keras.backend.backend() == "tensorflow":
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        2 * [tf.config.LogicalDeviceConfiguration()],
    )
    two_devices = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope
else:
    assert len(keras.distribution.list_devices()) == 2
    two_devices = keras.distribution.DataParallel().scope

histories = []
for devices in (contextlib.nullcontext, two_devices):
    keras.utils.set_random_seed(0)
    with devices():
        # What devices share has nothing to do with the number of iterations and layers.
        model = small_capsnet(routing=EMRouting(1))
        compiled(model, losses.SpreadLoss(0.5)).run_eagerly = False
        images, labels = random_images(24, model.image_shape)
        batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(8)
        history = model.fit(
            batches,
            validation_data=batches,
            epochs=2,
            verbose=0,
            callbacks=[callbacks.SpreadMarginSchedule(0.2, 0.3, 0.5)],
        )
    histories.append(history.history)
print(json.dumps(histories))
"""


@pytest.mark.skipif(BACKEND == "torch", reason="Keras trains on one device there")
def test_two_devices_train_as_one():
    flags = os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=2"
    one, two = results_of(DEVICES, flags)
    assert one.keys() == two.keys() >= {"loss", "val_loss"}
    for name in one:
        np.testing.assert_allclose(one[name], two[name], atol=1e-4)
    assert one["loss"][0] != one["loss"][-1]
