import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import random_images, small_capsnet

from experiments import networks, runs
from keras_capsules import routing
from keras_capsules.callbacks.directory_lock import unlock

SETTINGS = {"dataset": "digits", "limit": None, "batch_size": 8, "seed": 0}


def test_contents_of_data_sets():
    assert runs.contents("multi_mnist") == {"classes": 10, "objects": 2}
    assert runs.contents("toys/full") == {"classes": 5, "objects": 1}
    assert runs.contents("eth80") == {"classes": 8, "objects": 1}
    assert runs.contents("mnist") == {"classes": 10, "objects": 1}


class Stop(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


def train(folder, *others, resume=False, **kwargs):
    """Four epochs of four steps; the weights that are tested and those that train."""
    run = runs.Run(folder, SETTINGS, resume)
    model = small_capsnet(**kwargs)
    schedule = keras.optimizers.schedules.ExponentialDecay(0.01, 16, 0.5)
    model.compile(networks.adam(schedule, 100), model.loss, metrics=["accuracy"])
    batches = tf.data.Dataset.from_tensor_slices(random_images(32)).batch(8)
    run.fit(model, batches, batches, 4, others)
    return keras.saving.load_model(folder / "last.keras").get_weights()


def test_a_run_that_goes_on_is_the_same_as_one_that_was_never_stopped(tmp_path):
    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", Stop())
    resumed = train(tmp_path / "stopped", resume=True)
    for expected, actual in zip(whole, resumed, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("distorted", [False, True])
def test_training_digits_are_shifted_or_distorted(tmp_path, distorted):
    image = np.zeros((28, 28, 1), "float32")
    image[8:20, 8:20] = 1.0
    digits = tf.data.Dataset.from_tensors((image, 0)).repeat(16)
    digits = digits.apply(tf.data.experimental.assert_cardinality(16))
    run = runs.Run(tmp_path, SETTINGS, resume=False)
    train, test = run.batches(lambda: (digits, digits), distorted)
    changed = np.concatenate([images for images, _ in train.as_numpy_iterator()])
    sums = changed.sum((1, 2, 3))
    # A shift keeps all pixels. A distortion erases some and makes digits narrower.
    assert np.allclose(sums, image.sum()) != distorted
    assert not all(np.array_equal(image, other) for other in changed)
    for images, _ in test.as_numpy_iterator():
        np.testing.assert_array_equal(images, np.broadcast_to(image, images.shape))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_runs_that_can_not_go_on(tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "metrics.json").write_text("of a shorter run")
    with pytest.raises(KeyboardInterrupt):
        train(folder, Stop())
    unlock(folder)
    before = contents(folder)
    with pytest.raises(SystemExit, match="2"):
        train(folder)
    assert "run holds a run: add --resume" in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r"was made with {'seed': 0}. Received: .* 1}"):
        runs.Run(folder, {**SETTINGS, "seed": 1}, resume=True)
    iterations = r"Can't resume: .*routing.config.iterations is 3, expected 2"
    with pytest.raises(SystemExit, match=iterations):
        train(folder, resume=True, routing=routing.DynamicRouting(2))
    assert contents(folder) == before
    assert "metrics.json" not in before
    for text in ("{", "3"):
        (folder / "settings.json").write_text(text)
        with pytest.raises(SystemExit, match=f"Can't use --output {folder}"):
            runs.Run(folder, SETTINGS, resume=True)


def test_output_that_can_not_be_used(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(SystemExit, match=r"Can't use --output .*run"):
        runs.Run(tmp_path / "run", SETTINGS, resume=False)
    assert (tmp_path / "run").read_text() == "a file"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_networks_are_tested_and_kept_with_averages(tmp_path):
    class Raw(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if keras.backend.backend() != "jax":  # whose weights are elsewhere
                self.weights = self.model.get_weights()

    raw = Raw()
    kept = train(tmp_path, raw)
    if keras.backend.backend() != "jax":
        assert any(
            np.abs(a - b).max() > 1e-4 for a, b in zip(kept, raw.weights, strict=True)
        )
    model = keras.saving.load_model(tmp_path / "last.keras")
    images, labels = random_images(32)
    loss = model.evaluate(images, labels, batch_size=8, verbose=0)[0]
    history = runs.callbacks.Checkpoint.history_of(tmp_path)
    assert history[-1]["val_loss"] == pytest.approx(loss, rel=1e-4)
