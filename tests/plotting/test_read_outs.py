import pytest

from keras_capsules import plotting

ROWS = [
    {"model": name, "category": category, "r2": value}
    for name, values in {"capsules": (0.9, 0.7), "cnn": (0.2, -0.2)}.items()
    for category, value in zip(("cars", "trucks"), values, strict=True)
]


def test_a_panel_for_each_angle_and_a_line_for_each_model():
    figure = plotting.read_outs({"azimuth": ROWS, "elevation": ROWS[:2]})
    first, second = figure.axes
    assert [axis.get_title() for axis in figure.axes] == ["azimuth", "elevation"]
    capsules, cnn, zero = first.lines
    assert capsules.get_label() == "capsules" and cnn.get_label() == "CNN"
    assert list(cnn.get_ydata()) == [0.2, -0.2] and not any(zero.get_ydata())
    assert [tick.get_text() for tick in first.get_xticklabels()] == ["cars", "trucks"]
    assert len(second.lines) == 2


@pytest.mark.parametrize("scores", [{}, {"azimuth": []}])
def test_nothing_to_draw(scores):
    with pytest.raises(ValueError, match="`scores` must hold scores"):
        plotting.read_outs(scores)
