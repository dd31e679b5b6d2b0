import csv
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers import once, random_images, small_capsnet

from keras_capsules.callbacks import Checkpoint
from keras_capsules.callbacks.directory_lock import unlock
from keras_capsules.export.targets import unfinished_folder
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


def test_a_setting_that_is_also_the_name_of_a_layer(tmp_path):
    def build(activation="softmax"):
        first = keras.layers.Softmax(axis=np.int64(-1))  # named softmax, if it is first
        second = keras.layers.Dense(2, activation=activation)
        model = keras.Sequential([keras.Input((4,)), first, second])
        model.compile("adam", "mse")
        return model

    keras.utils.clear_session()
    model = build()
    checkpoint = Checkpoint(tmp_path, monitor="loss")
    model.fit(np.ones((4, 4)), np.ones((4, 2)), callbacks=[checkpoint], verbose=0)
    Checkpoint(tmp_path).restore(build())
    with pytest.raises(ValueError, match=r"2\.config\.activation is 'softmax', exp"):
        Checkpoint(tmp_path).restore(build("relu"))


def test_another_momentum_of_batch_normalization(tmp_path):
    def build(momentum):
        norm = keras.layers.BatchNormalization(momentum=momentum)
        model = keras.Sequential([keras.Input((4,)), norm])
        model.compile("adam", "mse")
        return model

    checkpoint = Checkpoint(tmp_path, monitor="loss")
    data = np.ones((4, 4)), np.ones((4, 4))
    build(0.9).fit(*data, callbacks=[checkpoint], verbose=0)
    again = build(0.5)
    Checkpoint(tmp_path).restore(again)
    assert again.layers[0].momentum == 0.5


def test_a_keras_file_without_history(tmp_path):
    model = small_capsnet()
    model.save(tmp_path / "last.keras")
    with pytest.raises(ValueError, match="was not written by Checkpoint"):
        Checkpoint(tmp_path).restore(model)
    (tmp_path / "last.keras").write_bytes(b"half a file")
    with pytest.raises(ValueError, match="was not written by Checkpoint"):
        Checkpoint.history_of(tmp_path)


def test_a_metric_of_several_values(tmp_path):
    model, checkpoint = tiny(), Checkpoint(tmp_path, "val_f1_score_1", "max")
    model.compile("adam", "mse", metrics=[keras.metrics.F1Score()])
    x, y = np.ones((4, 2)), np.eye(2)[[0, 1, 0, 1]]
    model.fit(x, y, validation_data=(x, y), callbacks=[checkpoint], verbose=0)
    (row,) = Checkpoint.history_of(tmp_path)
    assert {"f1_score_0", "f1_score_1", "val_f1_score_0"} < row.keys()


def test_random_layers_go_on_with_their_next_numbers(tmp_path):
    def dropping():
        layers = [keras.Input((2,)), keras.layers.Dropout(0.5, seed=3)]
        model = keras.Sequential([*layers, keras.layers.Dense(2)])
        model.compile("sgd", "mse")
        return model

    def state(model):
        return list(keras.ops.convert_to_numpy(model.layers[0].seed_generator.state))

    model, checkpoint = dropping(), Checkpoint(tmp_path)
    x = np.ones((4, 2))
    model.fit(x, x, 2, validation_data=(x, x), callbacks=[checkpoint], verbose=0)
    resumed = dropping()
    assert state(resumed) != state(model)
    Checkpoint(tmp_path).restore(resumed)
    assert state(resumed) == state(model)


def tiny():
    """A model that is saved and loaded at once."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def begun(directory, *losses):
    """A training whose next epochs have these losses; it goes on with what is kept."""
    model, checkpoint = tiny(), Checkpoint(directory)
    checkpoint.restore(model)
    checkpoint.set_model(model)
    checkpoint.on_train_begin()
    for loss in losses:
        epoch(checkpoint, loss)
    return checkpoint


def epoch(checkpoint, loss):
    done = len(checkpoint.history)
    checkpoint.model.layers[0].bias.assign([done + 1.0, loss])
    checkpoint.on_epoch_begin(done)
    checkpoint.on_epoch_end(done, {"val_loss": loss})


def losses(path):
    with zipfile.ZipFile(path) as archive:
        return [row["val_loss"] for row in json.loads(archive.read("history.json"))]


def check_files(directory):
    """That best.keras is the best epoch of last.keras; the losses of all epochs."""
    history = losses(directory / "last.keras")
    best = losses(directory / "best.keras")
    assert best == history[: len(best)] and best[-1] == min(history)
    model = keras.saving.load_model(directory / "best.keras")
    np.testing.assert_allclose(model.layers[0].bias, [len(best), best[-1]])
    with open(directory / "history.csv") as file:
        assert len([*csv.DictReader(file)]) == len(history)
    return history


class Killed(BaseException):
    pass


@pytest.mark.parametrize("step", range(6))
def test_killed_before_or_after_each_file(tmp_path, monkeypatch, step):
    checkpoint = begun(tmp_path, 0.5)
    replace, steps = os.replace, []

    def die_or_go_on():
        if len(steps) == step:
            raise Killed
        steps.append(step)

    def replace_or_die(*paths):
        die_or_go_on()
        replace(*paths)
        die_or_go_on()

    monkeypatch.setattr(os, "replace", replace_or_die)
    with pytest.raises(Killed):
        epoch(checkpoint, 0.1)  # the best: three files
    assert losses(tmp_path / "best.keras")[-1] in losses(tmp_path / "last.keras")
    monkeypatch.undo()
    checkpoint = begun(tmp_path)
    kept = [0.5, 0.1] if step else [0.5]
    assert check_files(tmp_path) == kept
    epoch(checkpoint, 0.3)
    assert check_files(tmp_path) == [*kept, 0.3]
    assert checkpoint.best_epoch["val_loss"] == losses(tmp_path / "best.keras")[-1]
    unlock(tmp_path)


def test_what_a_killed_process_left_is_removed(tmp_path):
    begun(tmp_path, 0.5).on_train_end()
    (tmp_path / "unfinished-a0_b1_c2").mkdir()
    (tmp_path / "unfinished-a0_b1_c2" / "last.keras").write_bytes(b"half")
    begun(tmp_path).on_train_end()
    assert contents(tmp_path).keys() == {"last.keras", "best.keras", "history.csv"}


def test_an_export_into_the_same_folder_is_left_alone(tmp_path):
    with unfinished_folder(tmp_path / "1") as folder:
        begun(tmp_path).on_train_end()
        assert folder.is_dir()


def test_two_trainings_of_a_process_do_not_destroy_each_other(tmp_path, monkeypatch):
    first, second = begun(tmp_path), begun(tmp_path)
    save = first.model.save

    def save_and_be_overtaken(path):
        save(path)
        epoch(second, 0.5)

    monkeypatch.setattr(first.model, "save", save_and_be_overtaken)
    with pytest.raises(ValueError, match="`directory` holds a training of 1 epochs"):
        epoch(first, 1.0)
    assert check_files(tmp_path) == [0.5]


def test_another_process_that_trains_there(tmp_path, monkeypatch):
    def held(directory):
        raise ValueError("process 5 trains there")

    begun(tmp_path, 0.5).on_train_end()
    before = contents(tmp_path)
    monkeypatch.setattr("keras_capsules.callbacks.checkpoint.lock", held)
    with pytest.raises(ValueError, match="process 5 trains there"):
        begun(tmp_path)
    assert contents(tmp_path) == before


def test_a_directory_is_locked_while_it_is_trained_in(tmp_path):
    class Look(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.found = [path.name for path in tmp_path.iterdir()]

    look, data = Look(), np.ones((2, 2))
    checkpoint = Checkpoint(tmp_path, monitor="loss")
    tiny().fit(data, data, callbacks=[checkpoint, look], verbose=0)
    assert look.found == ["checkpoint.lock"]
    assert not (tmp_path / "checkpoint.lock").exists()


def test_a_disk_that_is_full(tmp_path):
    checkpoint = begun(tmp_path, 0.5)
    before = contents(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    try:
        with pytest.raises(OSError, match=r"last.keras stays as it was"):
            epoch(checkpoint, 0.1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    before.pop("checkpoint.lock")
    assert contents(tmp_path) == before
    assert check_files(tmp_path) == [0.5]


def test_a_directory_that_can_not_be_made(tmp_path):
    (tmp_path / "file").write_text("a file")
    with pytest.raises(ValueError, match="`directory` must lead to a folder"):
        begun(tmp_path / "file" / "run")


def test_ctrl_c_waits_for_the_save_and_is_not_lost(tmp_path, monkeypatch):
    checkpoint = begun(tmp_path)
    save, waited = checkpoint.model.save, []

    def save_and_catch_everything(path):
        with suppress(BaseException):  # as Keras does
            signal.raise_signal(signal.SIGINT)
            waited.append(path)
        save(path)

    monkeypatch.setattr(checkpoint.model, "save", save_and_catch_everything)
    with pytest.raises(KeyboardInterrupt):
        epoch(checkpoint, 0.5)
    assert waited and check_files(tmp_path) == [0.5]


def test_flipped_bits(tmp_path):
    begun(tmp_path, 0.5).on_train_end()
    path = tmp_path / "last.keras"
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    # In the files of the archive, and in its table at the end.
    places = [*rng.integers(len(good), size=15), *-rng.integers(1, 400, size=15)]
    refused = 0
    for place in places:
        damaged = bytearray(good)
        damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        model = tiny()
        try:
            Checkpoint(tmp_path).restore(model)
        except ValueError as error:
            refused += 1
            assert str(path) in str(error)
        else:  # a date, for example
            np.testing.assert_allclose(model.layers[0].bias, [1.0, 0.5])
    assert refused >= 15


def rewritten(path, leave_out=(), compression=zipfile.ZIP_STORED, **members):
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts |= {f"{name}.json": text for name, text in members.items()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, part in parts.items():
            if name not in leave_out:
                archive.writestr(name, part)


def turned_into_a_directory(path):
    path.unlink()
    path.mkdir()


ROW = json.dumps([{"epoch": 1, "val_loss": 0.5}])


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:2000]),
        lambda path: path.write_bytes(b""),
        turned_into_a_directory,
        lambda path: rewritten(path, ["config.json"]),
        lambda path: rewritten(path, ["model.weights.h5"]),
        lambda path: rewritten(path, ["history.json"]),
        lambda path: rewritten(path, config="[" * 100_000),
        lambda path: rewritten(path, config="{}"),
        *(
            lambda path, text=text: rewritten(path, history=text)
            for text in ("{", "3", "[]", "[3]", "{}", '[{"epoch": "1"}]', "[" * 99_999)
        ),
        lambda path: rewritten(path, history=ROW + " " * (33 << 20)),
        lambda path: rewritten(path, (), zipfile.ZIP_DEFLATED, more=" " * 999_999),
    ],
)
def test_damaged_files(tmp_path, damage):
    begun(tmp_path, 0.5).on_train_end()
    path = tmp_path / "last.keras"
    damage(path)
    model = tiny()
    with pytest.raises(ValueError, match="was not written by Checkpoint") as error:
        Checkpoint(tmp_path).restore(model)
    assert str(path) in str(error.value)
    np.testing.assert_array_equal(model.layers[0].bias, [0.0, 0.0])


def test_a_best_model_that_is_lost(tmp_path):
    begun(tmp_path, 0.1, 0.5).on_train_end()
    path = tmp_path / "best.keras"
    shutil.copy(tmp_path / "last.keras", path)
    with pytest.raises(ValueError, match=r"must hold epoch 1, .*but it holds epoch 2"):
        begun(tmp_path)
    path.write_bytes(b"half")
    with pytest.raises(ValueError, match=r"must hold epoch 1, .*damaged"):
        begun(tmp_path)
    assert not (tmp_path / "checkpoint.lock").exists()


def test_a_monitor_that_the_epochs_before_have_not(tmp_path):
    begun(tmp_path, 0.5).on_train_end()
    checkpoint = Checkpoint(tmp_path, monitor="val_accuracy")
    checkpoint.restore(tiny())
    with pytest.raises(ValueError, match="`monitor` must be one of"):
        checkpoint.on_train_begin()


def test_a_frozen_layer_stays_frozen(tmp_path):
    def frozen():
        layers = [keras.layers.Dense(units) for units in (3, 2)]
        model = keras.Sequential([keras.Input((4,)), *layers])
        layers[0].trainable = False
        model.compile("adam", "mse")
        return model

    data = np.ones((4, 4)), np.ones((4, 2))
    first = frozen()
    checkpoint = Checkpoint(tmp_path, monitor="loss")
    first.fit(*data, callbacks=[checkpoint], verbose=0)
    model, checkpoint = frozen(), Checkpoint(tmp_path, monitor="loss")
    checkpoint.restore(model)
    assert [layer.trainable for layer in model.layers] == [False, True]
    model.fit(*data, initial_epoch=1, epochs=2, callbacks=[checkpoint], verbose=0)
    before, after = first.get_weights(), model.get_weights()
    np.testing.assert_array_equal(before[0], after[0])
    assert (before[2] != after[2]).any()


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
    checkpoint.monitor = "y"
    with pytest.raises(ValueError, match="`monitor` must be one of"):
        _ = checkpoint.best_epoch


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


def test_a_model_that_is_not_compiled(tmp_path):
    checkpoint = Checkpoint(tmp_path, monitor="loss")
    images, labels = random_images(4)
    small_capsnet().fit(images, labels, verbose=0, callbacks=[checkpoint])
    model = type(small_capsnet()).from_config(small_capsnet().get_config())
    with pytest.raises(ValueError, match="`model` must be compiled"):
        Checkpoint(tmp_path).restore(model)
