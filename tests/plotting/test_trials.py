import numpy as np
import pytest

from keras_capsules import plotting

TRIALS = [
    {"routing": "em", "rate": 0.001, "epochs": 1, "val_accuracy": 0.5},
    {"routing": "dynamic", "rate": 0.02, "epochs": 4, "val_accuracy": 0.9},
    {"routing": "em", "rate": 0.01, "epochs": 4, "val_accuracy": 0.8},
]


def test_a_panel_for_each_setting_and_a_star_for_the_best():
    routing, rate = plotting.trials(TRIALS).axes
    assert routing.get_xlabel() == "routing" and rate.get_xlabel() == "rate"
    assert [tick.get_text() for tick in routing.get_xticklabels()] == ["dynamic", "em"]
    dots = routing.collections[0]
    np.testing.assert_allclose(dots.get_offsets(), [[1, 0.5], [0, 0.9], [1, 0.8]])
    assert dots.get_sizes()[0] < dots.get_sizes()[1] == dots.get_sizes()[2]
    np.testing.assert_allclose(routing.lines[0].get_xydata(), [[0, 0.9]])
    np.testing.assert_allclose(rate.lines[0].get_xydata(), [[0.02, 0.9]])
    assert rate.get_xscale() == "log"


def test_numbers_near_each_other_are_not_logarithmic():
    axis = plotting.trials(
        [{"rate": rate, "epochs": 1, "score": rate} for rate in (0.1, 0.2)], "score"
    ).axes[0]
    assert axis.get_xscale() == "linear"


def test_a_setting_that_can_be_none():
    for values, expected in (
        ((10, None, 2), ["2", "10", "None"]),
        ((0.5, None), ["0.5", "None"]),
    ):
        found = [{"units": x, "epochs": 1, "score": 0.1} for x in values]
        axis = plotting.trials(found, "score").axes[0]
        assert [tick.get_text() for tick in axis.get_xticklabels()] == expected


@pytest.mark.parametrize(
    "found",
    [
        [],
        [{"epochs": 1, "val_accuracy": 0.1}],
        [{"a": 1}],
        [TRIALS[0], {"routing": "em", "epochs": 1, "val_accuracy": 0.1}],
    ],
)
def test_nothing_to_draw(found):
    with pytest.raises(ValueError, match="`found` must hold trials"):
        plotting.trials(found)
