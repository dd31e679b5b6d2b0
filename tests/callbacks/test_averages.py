import keras
import numpy as np

from keras_capsules.callbacks._averages import averages_of


def trained(use_ema):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    optimizer = keras.optimizers.SGD(0.1, use_ema=use_ema, ema_momentum=0.5)
    model.compile(optimizer, loss="mse")
    model.fit(np.ones((8, 2)), np.ones(8), 2, verbose=0)
    return model


def test_a_model_has_the_averages_within():
    model = trained(use_ema=True)
    model.layers[0].kernel.assign([[5.0], [6.0]])
    before = model.get_weights()
    averages = model.optimizer._model_variables_moving_average
    averages = [keras.ops.convert_to_numpy(x) for x in averages]
    with averages_of(model):
        for weights, average in zip(model.get_weights(), averages, strict=True):
            np.testing.assert_allclose(weights, average, rtol=1e-5)
    for weights, first in zip(model.get_weights(), before, strict=True):
        np.testing.assert_allclose(weights, first, rtol=1e-5)
    assert np.abs(before[0] - averages[0]).max() > 1.0


def test_without_averages_nothing_changes():
    model = trained(use_ema=False)
    before = model.get_weights()
    with averages_of(model):
        for weights, first in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(weights, first)
