import csv
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers import once, random_images, small_capsnet

from keras_capsules.callbacks import Checkpoint
from keras_capsules.routing import DynamicRouting

TESTS = Path(__file__).parents[1]


def train(model, checkpoint, epochs, *others):
    images, labels = random_images(24)
    model.fit(
        images,
        labels,
        batch_size=8,
        shuffle=False,
        validation_data=(images, labels),
        initial_epoch=len(checkpoint.history),
        epochs=epochs,
        callbacks=[*others, checkpoint],
        verbose=0,
    )


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_resumed_training_ends_as_an_unbroken_one(tmp_path):
    whole = small_capsnet()
    weights = whole.get_weights()
    train(whole, Checkpoint(tmp_path / "whole"), epochs=3)

    first = small_capsnet()
    first.set_weights(weights)
    train(first, Checkpoint(tmp_path / "parts"), epochs=2)
    assert len(Checkpoint.history_of(tmp_path / "parts")) == 2
    second = small_capsnet()
    checkpoint = Checkpoint(tmp_path / "parts")
    checkpoint.restore(second)
    assert int(second.optimizer.iterations) == 6
    train(second, checkpoint, epochs=3)

    assert [row["epoch"] for row in checkpoint.history] == [1, 2, 3]
    for a, b in zip(whole.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    with open(tmp_path / "parts" / "history.csv") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]


def averaging(dtype=None):
    """A network whose optimizer averages the weights and has a schedule."""
    model = small_capsnet(dtype=dtype)
    schedule = keras.optimizers.schedules.ExponentialDecay(0.01, 9, 0.5)
    optimizer = keras.optimizers.Adam(schedule, use_ema=True, ema_momentum=0.8)
    model.compile(optimizer, model.loss, metrics=["accuracy"])
    return model


def test_a_training_with_averages_is_kept_with_them_and_goes_on_without(tmp_path):
    whole = averaging()
    weights = whole.get_weights()
    swap = keras.callbacks.SwapEMAWeights()
    checkpoint = Checkpoint(tmp_path / "whole")
    train(whole, checkpoint, 3, swap)
    kept = keras.saving.load_model(tmp_path / "whole" / "last.keras")
    images, labels = random_images(24)
    loss, _ = kept.evaluate(images, labels, batch_size=8, verbose=0)
    assert checkpoint.history[-1]["val_loss"] == pytest.approx(loss, rel=1e-4)

    first = averaging()
    first.set_weights(weights)
    train(first, Checkpoint(tmp_path / "parts"), 2, swap)
    second = averaging()
    checkpoint = Checkpoint(tmp_path / "parts")
    checkpoint.restore(second)
    averages = keras.saving.load_model(tmp_path / "parts" / "last.keras").get_weights()
    pairs = zip(averages, second.get_weights(), strict=True)
    assert any(np.abs(a - b).max() > 1e-4 for a, b in pairs)
    train(second, checkpoint, 3, swap)
    for a, b in zip(whole.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_the_schedule_is_that_of_the_model_also_in_half_precision(tmp_path):
    train(averaging("mixed_float16"), Checkpoint(tmp_path), epochs=1)
    model = averaging("mixed_float16")
    schedule = keras.optimizers.schedules.ExponentialDecay(0.02, 30, 0.5)
    model.optimizer.inner_optimizer.learning_rate = schedule
    Checkpoint(tmp_path).restore(model)
    assert int(model.optimizer.iterations) == 3
    assert model.optimizer.inner_optimizer._learning_rate is schedule


def test_another_optimizer_is_refused(tmp_path):
    train(small_capsnet(), Checkpoint(tmp_path), epochs=1)
    with pytest.raises(
        ValueError, match=r"another optimizer: Adam with .* Expected: A"
    ):
        Checkpoint(tmp_path).restore(averaging())


@pytest.mark.parametrize(
    ("settings", "values"),
    [
        ({"monitor": "val_loss"}, [3.0, 1.0, 2.0]),
        ({"monitor": "val_accuracy", "mode": "max"}, [0.1, 0.9, 0.5]),
    ],
)
def test_best_is_the_epoch_of_the_best_value(tmp_path, settings, values):
    model = small_capsnet()
    model.optimizer.build(model.trainable_variables)
    checkpoint = Checkpoint(tmp_path, **settings)
    checkpoint.set_model(model)
    kernels = []
    for epoch, value in enumerate(values):
        kernel, bias = model.conv.get_weights()
        model.conv.set_weights([kernel + 1.0, bias])
        kernels.append(kernel + 1.0)
        checkpoint.on_epoch_begin(epoch)
        checkpoint.on_epoch_end(epoch, {checkpoint.monitor: value})
    best = keras.saving.load_model(tmp_path / "best.keras")
    last = keras.saving.load_model(tmp_path / "last.keras")
    np.testing.assert_array_equal(best.conv.get_weights()[0], kernels[1])
    np.testing.assert_array_equal(last.conv.get_weights()[0], kernels[2])


def test_a_save_that_breaks_off_leaves_the_last_one(tmp_path, monkeypatch):
    model = small_capsnet()
    checkpoint = Checkpoint(tmp_path, monitor="loss")
    train(model, checkpoint, epochs=1)

    def write_half_and_die(path, *args, **kwargs):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "save", write_half_and_die)
    checkpoint.on_epoch_begin(1)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.on_epoch_end(1, {"loss": 0.0})
    assert len(Checkpoint.history_of(tmp_path)) == 1


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("classes", {"classes": 4}),
        ("routing.config.iterations", {"routing": DynamicRouting(iterations=2)}),
        ("decoder_units", {"decoder_units": None}),
        ("input_shape", {"image_shape": (18, 14, 1)}),
    ],
)
def test_another_architecture_is_refused_and_no_file_touched(tmp_path, name, settings):
    train(small_capsnet(), Checkpoint(tmp_path), epochs=1)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=f"another architecture: {name} is"):
        Checkpoint(tmp_path).restore(small_capsnet(**settings))
    assert contents(tmp_path) == before


def test_a_kept_training_is_not_begun_anew(tmp_path):
    model = small_capsnet()
    train(model, Checkpoint(tmp_path), epochs=1)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="holds a training of 1 epochs"):
        train(model, Checkpoint(tmp_path), epochs=1)
    assert contents(tmp_path) == before


def test_nothing_to_go_on_with(tmp_path):
    assert Checkpoint.history_of(tmp_path) == []
    model, checkpoint = small_capsnet(), Checkpoint(tmp_path)
    before = model.get_weights()
    checkpoint.restore(model)
    assert checkpoint.history == []
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_loss_that_is_not_a_number_is_never_best(tmp_path):
    model = small_capsnet()
    model.optimizer.build(model.trainable_variables)
    checkpoint = Checkpoint(tmp_path)
    checkpoint.set_model(model)
    for epoch, loss in enumerate([float("nan"), 2.0, float("nan")]):
        checkpoint.on_epoch_begin(epoch)
        checkpoint.on_epoch_end(epoch, {"val_loss": loss})
    with zipfile.ZipFile(tmp_path / "best.keras") as archive:
        assert len(json.loads(archive.read("history.json"))) == 2


@pytest.mark.parametrize("functional", [False, True])
def test_names_that_keras_numbers_do_not_count(tmp_path, functional):
    def build(units):
        inputs = keras.Input((4,))
        dense = keras.layers.Dense(units)
        if functional:
            model = keras.Model(inputs, dense(inputs))
        else:
            model = keras.Sequential([inputs, dense])
        model.compile("adam", "mse")
        return model

    model = build(3)
    checkpoint = Checkpoint(tmp_path, monitor="loss")
    model.fit(np.ones((4, 4)), np.ones((4, 3)), callbacks=[checkpoint], verbose=0)
    Checkpoint(tmp_path).restore(build(3))
    with pytest.raises(ValueError, match="another architecture"):
        Checkpoint(tmp_path).restore(build(2))


def test_a_keras_file_without_history(tmp_path):
    model = small_capsnet()
    model.save(tmp_path / "last.keras")
    with pytest.raises(ValueError, match="was not written by Checkpoint"):
        Checkpoint(tmp_path).restore(model)
    (tmp_path / "last.keras").write_bytes(b"half a file")
    with pytest.raises(ValueError, match="was not written by Checkpoint"):
        Checkpoint.history_of(tmp_path)


PROGRAM = """
import sys
import numpy as np
from helpers import random_images, small_capsnet
from keras_capsules.callbacks import Checkpoint
model, checkpoint = small_capsnet(), Checkpoint("run")
checkpoint.restore(model)
done = len(checkpoint.history)
print("from", done, int(model.optimizer.iterations), flush=True)
images, labels = random_images(400)
model.fit(images, labels, batch_size=4, initial_epoch=done, verbose=2,
          epochs=done + 1 if done else 99, validation_split=0.1,
          callbacks=[checkpoint])
"""


@once
def test_kill_9_in_an_epoch_and_resume(tmp_path):
    program = [sys.executable, "-u", "-c", PROGRAM]
    paths = os.pathsep.join(map(str, (TESTS.parent, TESTS)))
    here = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": paths}}
    process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True, **here)
    while "Epoch 3/99" not in (line := process.stdout.readline()):
        assert line, "the training ended by itself"
    process.kill()
    process.communicate()
    result = subprocess.run(program, capture_output=True, text=True, **here)
    assert result.returncode == 0, result.stderr
    assert "from 2 180\n" in result.stdout  # 2 epochs of 90 batches
    assert "Epoch 3/3" in result.stdout
    assert [row["epoch"] for row in Checkpoint.history_of(tmp_path / "run")] == [
        1,
        2,
        3,
    ]


def test_a_process_that_is_not_the_first_writes_nothing(tmp_path, monkeypatch):
    (tmp_path / "unfinished-last.keras").write_text("of the first process")
    where = "keras_capsules.callbacks.checkpoint.is_first_process"
    monkeypatch.setattr(where, lambda: False)
    checkpoint = Checkpoint(tmp_path)
    train(small_capsnet(), checkpoint, epochs=2)
    assert [row["epoch"] for row in checkpoint.history] == [1, 2]
    assert contents(tmp_path) == {"unfinished-last.keras": b"of the first process"}


def test_the_best_epoch():
    history = [{"epoch": i + 1, "x": x} for i, x in enumerate((np.nan, 0.3, 0.1, 0.2))]
    for mode, epoch in (("min", 3), ("max", 2)):
        checkpoint = Checkpoint("run", monitor="x", mode=mode)
        checkpoint.history = history
        assert checkpoint.best_epoch is history[epoch - 1]
    assert Checkpoint("run").best_epoch is None


def test_unknown_monitor(tmp_path):
    with pytest.raises(ValueError, match="`monitor` must be one of"):
        train(small_capsnet(), Checkpoint(tmp_path, monitor="val_f1"), epochs=1)
    assert not list(tmp_path.iterdir())


def test_the_model_is_an_ordinary_keras_file(tmp_path):
    train(small_capsnet(), Checkpoint(tmp_path), epochs=1)
    assert zipfile.is_zipfile(tmp_path / "last.keras")
    assert not list(tmp_path.glob("unfinished*"))


def test_config(tmp_path):
    checkpoint = Checkpoint(tmp_path, monitor="loss", mode="max")
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(checkpoint)
    )
    assert again.get_config() == checkpoint.get_config()
