import pytest

from keras_capsules import plotting

ROWS = [
    {"model": name, "epsilon": epsilon, "accuracy": accuracy}
    for name, accuracies in {"capsules": (0.9, 0.7), "cnn": (0.8, 0.2)}.items()
    for epsilon, accuracy in zip((0.0, 0.1), accuracies, strict=True)
]


def test_a_panel_for_each_attack_and_a_line_for_each_model():
    figure = plotting.attack_curves({"FGSM": ROWS, "BIM": ROWS[:2]})
    first, second = figure.axes
    assert [axis.get_title() for axis in figure.axes] == ["FGSM", "BIM"]
    capsules, cnn = first.lines
    assert capsules.get_label() == "capsules" and cnn.get_label() == "CNN"
    assert list(cnn.get_xdata()) == [0.0, 0.1]
    assert list(cnn.get_ydata()) == pytest.approx([80.0, 20.0])
    assert len(second.lines) == 1


@pytest.mark.parametrize("attacks", [{}, {"FGSM": []}])
def test_nothing_to_draw(attacks):
    with pytest.raises(ValueError, match="`attacks` must hold rows"):
        plotting.attack_curves(attacks)
