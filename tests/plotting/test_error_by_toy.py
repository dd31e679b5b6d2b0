import numpy as np
import pytest

from keras_capsules import plotting

TOYS = np.linspace(0.0, 1.0, 6).reshape(2, 3, 1, 1, 1) * np.ones((4, 4, 1))
ERRORS = {"cnn": np.full((2, 3), 0.25), "capsules": np.arange(6).reshape(2, 3) / 6.0}


def test_a_panel_for_each_toy():
    figure = plotting.error_by_toy(TOYS, ERRORS)
    assert figure.get_suptitle() == "Error in % of cnn, capsules"
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["25, 0", "25, 17", "25, 33", "25, 50", "25, 67", "25, 83"]
    colors = [axis.title.get_color() for axis in figure.axes]
    assert colors == ["black"] * 4 + ["red"] * 2
    for axis, toy in zip(figure.axes, TOYS.reshape(6, 4, 4), strict=True):
        np.testing.assert_array_equal(axis.images[0].get_array(), toy)


def test_errors_of_other_toys():
    with pytest.raises(ValueError, match=r"shape \(2, 3\).*Received: shape \(3, 2\)"):
        plotting.error_by_toy(TOYS, {"cnn": np.zeros((3, 2))})
