import numpy as np

from keras_capsules.plotting.panels import panels, show


def test_grey_colour_and_other_channels():
    figure, axes = panels(1, 3)
    assert axes.shape == (1, 3) and len(figure.axes) == 3
    rng = np.random.default_rng(0)
    for axis, channels in zip(axes[0], (1, 3, 2), strict=True):
        show(axis, rng.random((4, 5, channels)))
        shape = axis.images[0].get_array().shape
        assert shape == ((4, 5, 3) if channels == 3 else (4, 5))
