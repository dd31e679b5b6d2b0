import numpy as np

from keras_capsules.plotting.panels import (
    Picture,
    charts,
    columns_by_model,
    panels,
    show,
)


def test_grey_colour_and_other_channels():
    figure, axes = panels(1, 3)
    assert axes.shape == (1, 3) and len(figure.axes) == 3
    rng = np.random.default_rng(0)
    for axis, channels in zip(axes[0], (1, 3, 2), strict=True):
        show(axis, rng.random((4, 5, channels)))
        shape = axis.images[0].get_array().shape
        assert shape == ((4, 5, 3) if channels == 3 else (4, 5))


def test_a_row_of_charts():
    figure, axes = charts(3, height=4)
    assert axes.shape == (3,) and list(figure.axes) == list(axes)
    assert tuple(figure.get_size_inches()) == (15, 4)


def test_rows_of_charts():
    figure, axes = charts(2, height=7, rows=2)
    assert axes.shape == (4,) and list(figure.axes) == list(axes)
    assert tuple(figure.get_size_inches()) == (10, 7)
    top, _, below, _ = (axis.get_subplotspec().rowspan.start for axis in axes)
    assert (top, below) == (0, 1)


def test_rows_of_models_that_alternate():
    rows = [
        {"model": name, "x": index, "y": -index}
        for index, name in enumerate(("b", "a", "b"))
    ]
    found = list(columns_by_model(rows, "x", "y"))
    assert found == [("b", [0, 2], [0, -2]), ("a", [1], [-1])]


def test_notebooks_show_a_picture_without_pyplot():
    figure, _ = charts(1)
    assert isinstance(figure, Picture)
    picture = figure._repr_png_()
    assert picture.startswith(b"\x89PNG")
    # In the size that the figure has: 5×3.5 inches with 120 dots each.
    assert np.frombuffer(picture[16:24], ">u4").tolist() == [600, 420]
