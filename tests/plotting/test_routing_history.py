import pytest

from keras_capsules import plotting

ROWS = [
    {"epoch": 1, "loss": 2.0, "conv_1_dead": 0.5, "top_dead": 0.1, "top_saturated": 0},
    {"epoch": 2, "loss": 1.0, "conv_1_dead": 0.4, "top_dead": 0.0, "top_saturated": 1},
]


def test_a_panel_for_each_quantity_and_a_curve_for_each_layer():
    dead, saturated = plotting.routing_history(ROWS).axes
    assert dead.get_title() == "dead capsules"
    assert saturated.get_title() == "saturated capsules"
    assert [line.get_label() for line in dead.lines] == ["conv 1", "top"]
    assert [list(line.get_ydata()) for line in dead.lines] == [[0.5, 0.4], [0.1, 0.0]]
    assert list(saturated.lines[0].get_xdata()) == [1, 2]


def test_more_than_three_panels_take_two_rows():
    ends = "activation_mean", "activation_std", "dead", "saturated"
    figure = plotting.routing_history([{"epoch": 1, **{f"top_{x}": 0.5 for x in ends}}])
    assert len(figure.axes) == 4
    assert tuple(figure.get_size_inches()) == (15, 7)


def test_poses_that_are_longer_than_1():
    rows = [{"epoch": 1, "top_activation_mean": 4.0}]
    (axis,) = plotting.routing_history(rows).axes
    assert axis.get_ylim()[0] < 4.0 < axis.get_ylim()[1]
    # One epoch has one tick.
    assert [tick for tick in axis.get_xticks() if 0.5 <= tick <= 1.5] == [1.0]


@pytest.mark.parametrize("history", [[], [{"epoch": 1, "loss": 0.5}], {"loss": [0.5]}])
def test_nothing_to_draw(history):
    with pytest.raises(ValueError, match=r"`callbacks\.RoutingMonitor` measures"):
        plotting.routing_history(history)
