"""Figures with a grid of images or a row of charts, and colours of networks."""

import io
import itertools
from collections.abc import Iterable, Iterator
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


class Picture(Figure):
    """A figure that notebooks show as a picture, even if pyplot is not imported.

    Example:

    >>> Picture(figsize=(1, 1))._repr_png_()[1:4]
    b'PNG'
    """

    def _repr_png_(self) -> bytes:
        """Returns the PNG that IPython shows if pyplot has not set up the display."""
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


def panels(rows: int, columns: int, title: str = "") -> tuple[Figure, np.ndarray]:
    """Creates a figure of `rows` × `columns` empty panels for small images.

    Args:
        rows: number of rows.
        columns: number of columns.
        title: title of the figure; by default it has none.

    Returns:
        The figure and its axes, an array `(rows, columns)`.
    """
    size = max(columns, 0.08 * len(title)), 1.1 * rows + 0.5
    figure = Picture(figsize=size, layout="constrained", dpi=120)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    figure.suptitle(title, fontsize=10)
    return figure, axes


def charts(
    columns: int, height: float = 3.5, width: float = 5.0, rows: int = 1
) -> tuple[Figure, np.ndarray]:
    """Creates a figure with rows of empty charts.

    Args:
        columns: number of charts in a row.
        height: height of the figure, in inches.
        width: width of a chart, in inches.
        rows: number of rows.

    Returns:
        The figure and its axes, an array `(rows · columns,)`, row by row.
    """
    size = (width * columns, height)
    figure = Picture(figsize=size, layout="constrained", dpi=120)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.grid(alpha=0.3)
    return figure, axes


def models_of(rows: list[dict]) -> list[str]:
    """Returns the names of the models in `rows`, in the order of their first rows."""
    return list(dict.fromkeys(row["model"] for row in rows))


def columns_by_model(rows: list[dict], *names: str) -> Iterator[tuple]:
    """Yields the columns of each model, in the order of the models' first rows.

    Args:
        rows: dicts, each with the name of its `model`.
        *names: names of the columns.

    Yields:
        A tuple of the name of the model and a list of values for each column.

    Example:

    >>> rows = [{"model": "cnn", "error": 0.2}, {"model": "cnn", "error": 0.1}]
    >>> list(columns_by_model(rows, "error"))
    [('cnn', [0.2, 0.1])]
    """
    for model in models_of(rows):
        line = [row for row in rows if row["model"] == model]
        yield model, *([row[name] for row in line] for name in names)


def colors_of(models: Iterable[str]) -> dict[str, str]:
    """Returns a colour for each network.

    CNNs are orange, and the first other network is blue.

    Args:
        models: names of the networks. The name of a CNN contains "cnn".

    Returns:
        A dict of the colours, by the name of the network.

    Example:

    >>> colors_of(["cnn", "capsules"])
    {'cnn': 'tab:orange', 'capsules': 'tab:blue'}
    """
    cnns = itertools.cycle(["tab:orange", "tab:red", "tab:olive"])
    others = itertools.cycle(["tab:blue", "tab:green", "tab:purple", "tab:brown"])
    return {model: next(cnns if "cnn" in model.lower() else others) for model in models}


def label_of(model: str) -> str:
    """Returns the name of a network in a legend."""
    return "CNN" if model == "cnn" else model


def mark_epochs(axis: Axes, rows: list[dict]) -> None:
    """Labels the horizontal axis of a chart with the epochs in `rows`."""
    epochs = [row["epoch"] for row in rows]
    axis.set(xlabel="epoch", xlim=(min(epochs) - 0.5, max(epochs) + 0.5))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def caption(text: str) -> str:
    """Breaks text into lines that fit above a panel.

    Example:

    >>> caption("label four-legged animal")
    'label four-\\nlegged animal'
    """
    return fill(text, 14)


def show(axis: Axes, image: np.ndarray) -> None:
    """Draws an image with values from 0 to 1, grey or in colour.

    Args:
        axis: the axis to draw on.
        image: image `(height, width, channels)`. With 3 channels it is drawn in colour,
            otherwise the mean of the channels is drawn in grey.
    """
    if image.shape[-1] == 3:
        axis.imshow(image.clip(0.0, 1.0))
    else:
        axis.imshow(image.mean(-1), cmap="gray", vmin=0.0, vmax=1.0)
