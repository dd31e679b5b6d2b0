import keras
import numpy as np
import pytest
import scripts
import tensorflow as tf

matching = scripts.module("matching")


def batches(seed):
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(40, 6)).astype("float32")
    return tf.data.Dataset.from_tensor_slices((images, rng.integers(0, 3, 40))).batch(8)


def test_errors_of_an_epoch_are_those_of_the_averages_that_are_kept(tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, "softmax")])
    model.compile(
        keras.optimizers.Adam(0.3, use_ema=True, ema_momentum=0.9),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    familiar, novel = batches(1), batches(2)
    history = model.fit(
        batches(0),
        validation_data=familiar,
        epochs=2,
        verbose=0,
        callbacks=[
            matching.TestErrors(familiar, novel, match=0.5),
            keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
            keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras"),
        ],
    ).history
    for epoch in range(2):
        kept = keras.saving.load_model(tmp_path / f"{epoch + 1}.keras")
        for name, error in matching.test_errors(kept, familiar, novel).items():
            assert history[name][epoch] == pytest.approx(error)
        familiar_error = history["familiar_error"][epoch]
        assert familiar_error == pytest.approx(1.0 - history["val_accuracy"][epoch])
        assert history["mismatch"][epoch] == pytest.approx(abs(familiar_error - 0.5))
