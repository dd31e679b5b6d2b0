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


@pytest.mark.parametrize("history", [[], [{"epoch": 1, "loss": 0.5}]])
def test_nothing_to_draw(history):
    with pytest.raises(ValueError, match="`history` must hold at least one epoch"):
        plotting.curves(history)
