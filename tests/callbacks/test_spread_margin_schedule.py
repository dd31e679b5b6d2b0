import keras
import numpy as np
import pytest

from keras_capsules.callbacks import SpreadMarginSchedule
from keras_capsules.losses import MarginLoss, SpreadLoss

RNG = np.random.default_rng(0)
IMAGES = RNG.random((24, 4), dtype="float32")
LABELS = np.arange(24) % 3
BATCHES = 3  # of 8 images


def network(loss=None, **settings):
    """A network that learns nothing, so that its loss changes by the margin alone."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "sigmoid")])
    loss = SpreadLoss() if loss is None else loss
    model.compile(keras.optimizers.SGD(0.0), loss=loss, **settings)
    return model


def fit(model, epochs, *callbacks, **settings):
    return model.fit(
        IMAGES,
        LABELS,
        batch_size=8,
        epochs=epochs,
        validation_data=(IMAGES, LABELS),
        callbacks=callbacks,
        shuffle=False,
        verbose=0,
        **settings,
    ).history


def spread(model, margin, images=slice(None)):
    """The loss of the model by the formula, in float64."""
    labels = LABELS[images]
    a = model.predict(IMAGES[images], verbose=0).astype("float64")
    cost = np.maximum(0, margin - (a[np.arange(len(a)), labels][:, None] - a)) ** 2
    return cost[np.arange(3) != labels[:, None]].sum() / len(a)


def compilers():
    backend = keras.backend.backend()
    yield {"run_eagerly": True}
    yield {"jit_compile": False}
    if backend != "torch":  # Keras compiles PyTorch only on demand, for minutes
        yield {"jit_compile": True}
        yield {"jit_compile": "auto", "steps_per_execution": 2}


@pytest.mark.parametrize("settings", compilers(), ids=str)
def test_each_epoch_trains_and_validates_with_its_margin(settings):
    model = network(**settings)
    # Steps that were compiled before must not keep the margin they saw.
    (loss,) = fit(model, 1)["loss"]
    assert loss == pytest.approx(spread(model, 0.9), rel=1e-4)
    history = fit(model, 4, SpreadMarginSchedule(0.2, 0.3, 0.7))
    margins = [0.2, 0.5, 0.7, 0.7]
    expected = [spread(model, margin) for margin in margins]
    np.testing.assert_allclose(history["margin"], margins)
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-4)
    np.testing.assert_allclose(history["val_loss"], expected, rtol=1e-4)
    loss = model.evaluate(IMAGES, LABELS, verbose=0)
    assert loss == pytest.approx(expected[-1], rel=1e-4)


def test_raises_within_an_epoch():
    model = network()
    schedule = SpreadMarginSchedule(0.2, 0.1, 0.9, steps=2)
    history = fit(model, 4, schedule, initial_epoch=2)
    for row, epoch in enumerate([2, 3]):
        margins = [0.2 + 0.1 * ((epoch * BATCHES + k) // 2) for k in range(BATCHES)]
        batches = [slice(8 * k, 8 * k + 8) for k in range(BATCHES)]
        expected = map(spread, [model] * BATCHES, margins, batches)
        assert history["loss"][row] == pytest.approx(np.mean([*expected]), rel=1e-4)
        assert history["val_loss"][row] == pytest.approx(
            spread(model, margins[-1]), rel=1e-4
        )


def test_a_training_goes_on_with_the_margin_of_its_epoch(tmp_path):
    model = network()
    fit(model, 2, SpreadMarginSchedule())
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.loss.margin == pytest.approx(0.3)
    loss = again.evaluate(IMAGES, LABELS, verbose=0)
    assert loss == pytest.approx(spread(model, 0.3), rel=1e-4)
    history = fit(again, 6, SpreadMarginSchedule(), initial_epoch=5)
    assert history["margin"] == [pytest.approx(0.7)]
    assert history["loss"] == [pytest.approx(spread(model, 0.7), rel=1e-4)]


def test_a_spread_loss_among_others():
    loss = SpreadLoss()
    x = keras.Input((4,))
    outputs = [keras.layers.Dense(3, "sigmoid")(x), keras.layers.Dense(4)(x)]
    model = keras.Model(x, outputs)
    model.compile("adam", loss=[loss, "mse"])
    targets = [LABELS, IMAGES]
    model.fit(IMAGES, targets, callbacks=[SpreadMarginSchedule()], verbose=0)
    assert loss.margin == 0.2


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("start", {"start": 0.0}),
        ("start", {"start": 0.9, "stop": 0.2}),
        ("start", {"start": float("nan")}),
        ("step", {"step": 0.0}),
        ("steps", {"steps": 0}),
        ("steps", {"steps": 1.5}),
    ],
)
def test_bad_argument(name, settings):
    with pytest.raises(ValueError, match=f"`{name}`"):
        SpreadMarginSchedule(**settings)


@pytest.mark.parametrize("loss", [MarginLoss(), "sparse_categorical_crossentropy"])
def test_a_model_without_spread_loss(loss):
    with pytest.raises(ValueError, match=r"a model that is compiled with a SpreadLoss"):
        fit(network(loss), 1, SpreadMarginSchedule())


def test_steps_of_an_epoch_of_unknown_length():
    def batches():
        while True:
            yield IMAGES[:8], LABELS[:8]

    model = network()
    schedule = SpreadMarginSchedule(steps=2)
    with pytest.raises(ValueError, match="`steps` needs data whose number of batches"):
        model.fit(batches(), callbacks=[schedule], verbose=0)
    model.fit(batches(), steps_per_epoch=3, callbacks=[schedule], verbose=0)
    assert model.loss.margin == pytest.approx(0.3)


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="Keras takes one step at a time there"
)
def test_validation_has_the_margin_of_the_last_batch_however_many_a_call():
    model = network(steps_per_execution=BATCHES)
    history = fit(model, 2, SpreadMarginSchedule(0.2, 0.1, 0.9, steps=1))
    # Batches 0 to 2 are one execution, with the margin of the first; then 3 to 5.
    np.testing.assert_allclose(history["margin"], [0.4, 0.7])
    expected = [spread(model, margin) for margin in (0.2, 0.5)]
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-4)
    expected = [spread(model, margin) for margin in (0.4, 0.7)]
    np.testing.assert_allclose(history["val_loss"], expected, rtol=1e-4)


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="Keras takes one step at a time there"
)
def test_several_steps_a_call_see_the_same_margins():
    found = []
    for steps in (1, 2):
        keras.utils.set_random_seed(0)
        model = network(steps_per_execution=steps)
        history = fit(model, 2, SpreadMarginSchedule(0.2, 0.1, 0.9, steps=2))
        found.append((history["loss"], history["margin"]))
    # Raised before the third of three batches, and before the second of the next.
    assert found[0][1] == pytest.approx([0.3, 0.4])
    assert found[1][1] == pytest.approx([0.3, 0.4])
    assert found[1][0][0] == pytest.approx(found[0][0][0], rel=1e-5)
