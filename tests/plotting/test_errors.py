import pytest

from keras_capsules import plotting

ROWS = [
    {"label": "here", "ours": [0.5, 0.4], "paper": [0.25], "best open code": []},
    {"label": "not here", "ours": [], "paper": [2.0], "best open code": []},
]


def test_a_line_for_each_row_and_a_mark_for_each_number():
    (axis,) = plotting.errors(ROWS).axes
    ours, paper = axis.lines
    assert ours.get_label() == "ours" and paper.get_label() == "paper"
    assert list(ours.get_xdata()) == [0.5, 0.4] and list(ours.get_ydata()) == [0, 0]
    assert list(paper.get_xdata()) == [0.25, 2.0] and list(paper.get_ydata()) == [0, 1]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["here", "not here"]


def test_cnns_have_a_colour_of_their_own_and_three_runs_a_mean():
    rows = [
        {**ROWS[0], "label": label, "ours": [1.0, 2.0, 6.0]}
        for label in ("capsules", "CNN, 20 epochs")
    ]
    axis = plotting.errors(rows).axes[0]
    drawn = [(line.get_label(), line.get_color()) for line in axis.lines]
    assert drawn[0] == ("ours", "tab:blue") and drawn[2] == ("ours, CNN", "tab:orange")
    for line in axis.lines[1:4:2]:
        assert list(line.get_xdata()) == [3.0]
        assert line.get_color() in ("tab:blue", "tab:orange")


def test_no_mark_is_cut_by_the_edge():
    (axis,) = plotting.errors([{**ROWS[0], "ours": [0.26]}]).axes
    assert axis.get_xlim() == pytest.approx((0.0, 1.05 * 0.26))


def test_nothing_to_draw():
    with pytest.raises(ValueError, match="`rows` must hold at least one row"):
        plotting.errors([])
