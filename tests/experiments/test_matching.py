import keras
import numpy as np
import pytest
import tensorflow as tf

from experiments import matching, networks, runs
from keras_capsules.callbacks import Checkpoint

SETTINGS = {"dataset": "digits", "limit": None, "batch_size": 8, "seed": 0}


def batches(seed):
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(40, 6)).astype("float32")
    return tf.data.Dataset.from_tensor_slices((images, rng.integers(0, 3, 40))).batch(8)


class FirstIsBest(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs):
        logs["number"] = epoch


def test_errors_of_an_epoch_are_those_of_the_averages_that_are_kept(tmp_path):
    run = runs.Run(tmp_path, SETTINGS, resume=False)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, "softmax")])
    schedule = keras.optimizers.schedules.ExponentialDecay(0.3, 10, 0.9)
    loss = "sparse_categorical_crossentropy"
    model.compile(networks.adam(schedule, 200), loss, metrics=["accuracy"])
    familiar, novel = batches(1), batches(2)
    others = [matching.TestErrors(familiar, novel, match=0.5), FirstIsBest()]
    run.fit(model, batches(0), familiar, 2, others, monitor="number")
    history = Checkpoint.history_of(tmp_path)
    for name, epoch in (("best", history[0]), ("last", history[1])):
        kept = keras.saving.load_model(tmp_path / f"{name}.keras")
        for error, value in matching.test_errors(kept, familiar, novel).items():
            assert epoch[error] == pytest.approx(value)
        assert epoch["familiar_error"] == pytest.approx(1.0 - epoch["val_accuracy"])
        mismatch = abs(epoch["familiar_error"] - 0.5)
        assert epoch["mismatch"] == pytest.approx(mismatch)


def test_the_epoch_that_is_compared_has_the_errors_on_all_images():
    history = [
        {"epoch": 1, "familiar_error": 0.2, "novel_error": 0.4},
        {"epoch": 2, "familiar_error": 0.1, "novel_error": 0.3},
    ]
    network = {"epoch": 2, "familiar_error": 0.1, "novel_error": 0.35}
    compared = {"cnn": network, "capsules": {**network, "epoch": 1}}
    rows = matching.epochs(
        {name: {**found, "history": history} for name, found in compared.items()}
    )
    assert [row["compared"] for row in rows] == [False, True, True, False]
    assert [row["novel_error"] for row in rows] == [0.4, 0.35, 0.35, 0.3]
    assert [row["familiar_error"] for row in rows] == [0.2, 0.1, 0.1, 0.1]
