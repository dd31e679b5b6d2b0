import keras
import numpy as np
import pytest

from keras_capsules.plotting.histories import rows_of

ROWS = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.3}]


def test_all_forms_are_the_same_rows():
    assert rows_of(ROWS) == rows_of({"loss": [0.5, 0.3]}) == ROWS


def test_the_epochs_of_a_training_that_went_on():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = np.ones((4, 2)), np.zeros((4, 1))
    history = model.fit(x, y, verbose=0, initial_epoch=3, epochs=5)
    assert [row["epoch"] for row in rows_of(history)] == [4, 5]


def test_a_list_that_lacks_epochs():
    with pytest.raises(ValueError, match="1 of val_loss for 2 epochs"):
        rows_of({"loss": [0.5, 0.3], "val_loss": [0.4]})
