import numpy as np
import pytest

from keras_capsules import plotting

EPOCHS = [
    {
        "model": name,
        "familiar_error": familiar,
        "novel_error": novel,
        "compared": index == 1,
    }
    for name, errors in {
        "cnn": ((0.3, 0.5), (0.1, 0.4)),
        "capsules": ((0.4, 0.45), (0.1, 0.2), (0.05, 0.15)),
    }.items()
    for index, (familiar, novel) in enumerate(errors)
]


def test_a_panel_for_each_split_and_a_line_for_each_model():
    axes = plotting.viewpoint_errors(
        {"novel azimuth": EPOCHS, "novel elevation": EPOCHS[:2]}
    ).axes
    assert [axis.get_title() for axis in axes] == ["novel azimuth", "novel elevation"]
    cnn, cnn_compared, capsules, capsules_compared = axes[0].lines
    assert cnn.get_label() == "CNN" and capsules.get_label() == "capsules"
    np.testing.assert_allclose(capsules.get_xydata(), [[40, 45], [10, 20], [5, 15]])
    np.testing.assert_allclose(cnn_compared.get_xydata(), [[10, 40]])
    np.testing.assert_allclose(capsules_compared.get_xydata(), [[10, 20]])
    assert capsules_compared.get_color() == capsules.get_color()
    assert len(axes[1].lines) == 2


def test_an_error_of_zero_has_a_place():
    epochs = [EPOCHS[0], {**EPOCHS[1], "familiar_error": 0.0}]
    axis = plotting.viewpoint_errors({"azimuth": epochs}).axes[0]
    left, right = axis.get_xlim()
    assert left < 0.0 < right


@pytest.mark.parametrize("viewpoints", [{}, {"azimuth": []}])
def test_nothing_to_draw(viewpoints):
    with pytest.raises(ValueError, match="`viewpoints` must hold epochs"):
        plotting.viewpoint_errors(viewpoints)
