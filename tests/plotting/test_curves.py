import keras
import numpy as np
import pytest

from keras_capsules import plotting

HISTORY = [
    {"epoch": 1, "seconds": 3.0, "loss": 0.5, "val_loss": 0.6, "accuracy": 0.7},
    {"epoch": 2, "seconds": 3.0, "loss": 0.3, "val_loss": 0.4, "accuracy": 0.8},
]


def test_a_panel_for_each_quantity_with_a_validation_twin():
    (axis,) = plotting.curves(HISTORY).axes
    training, validation = axis.lines
    assert axis.get_title() == "loss"
    assert list(training.get_ydata()) == [0.5, 0.3]
    assert list(validation.get_ydata()) == [0.6, 0.4]


@pytest.mark.parametrize(
    "history", [[], {}, [{"epoch": 1, "loss": 0.5}], {"loss": [0.5]}]
)
def test_nothing_to_draw(history):
    with pytest.raises(ValueError, match="`history` must hold at least one epoch"):
        plotting.curves(history)


def lines(history):
    return [
        line.get_xydata().tolist() for line in plotting.curves(history).axes[0].lines
    ]


def test_what_fit_returns_and_its_lists():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = np.ones((4, 2)), np.zeros((4, 1))
    fitted = model.fit(
        x, y, verbose=0, initial_epoch=3, epochs=5, validation_data=(x, y)
    )
    training, validation = lines(fitted)
    assert training == [
        [4.0, fitted.history["loss"][0]],
        [5.0, fitted.history["loss"][1]],
    ]
    assert validation[1] == [5.0, fitted.history["val_loss"][1]]
    training, validation = lines(fitted.history)
    assert [epoch for epoch, _ in training] == [1.0, 2.0]


def test_epochs_without_validation_are_left_out():
    without = {"epoch": 1, "loss": 0.5}
    both = {"epoch": 2, "loss": 0.4, "val_loss": 0.6}
    training, validation = lines([without, both])
    assert training == [[1.0, 0.5], [2.0, 0.4]] and validation == [[2.0, 0.6]]
    # Of lists it can't be known which epochs they are.
    with pytest.raises(ValueError, match=r"1 of val_loss for 2 epochs"):
        plotting.curves({"loss": [0.5, 0.4], "val_loss": [0.6]})
