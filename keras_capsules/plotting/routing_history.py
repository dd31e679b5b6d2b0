import math
from typing import Any

from matplotlib.figure import Figure

from keras_capsules.plotting.histories import rows_of
from keras_capsules.plotting.panels import charts, mark_epochs

# The statistics of `callbacks.RoutingMonitor` and the titles of their panels.
_TITLES = {
    "activation_mean": "mean of the activations",
    "activation_std": "standard deviation of the activations",
    "dead": "dead capsules",
    "saturated": "saturated capsules",
    "effective_parents": "effective parents of a child / parents",
    "last_change": "change in the last iteration / in all",
}


def routing_history(history: Any) -> Figure:
    """Draws the statistics of `callbacks.RoutingMonitor` for each epoch.

    The figure has a panel for each statistic, with a curve for each layer.

    Args:
        history: as for `curves`.

    Returns:
        The figure.

    Raises:
        ValueError: the history contains no statistics of a `RoutingMonitor`, or a list
            in it lacks epochs.

    Example:

    >>> from keras_capsules import plotting
    >>> epochs = [{"epoch": 1, "class_capsules_dead": 0.5},
    ...           {"epoch": 2, "class_capsules_dead": 0.0}]
    >>> len(plotting.routing_history(epochs).axes)
    1
    """
    rows = rows_of(history)
    quantities = dict.fromkeys(name for row in rows for name in row)
    panels = {
        end: [name for name in quantities if name.endswith(f"_{end}")]
        for end in _TITLES
    }
    panels = {end: names for end, names in panels.items() if names}
    if not panels:
        raise ValueError(
            "Argument `history` must hold what `callbacks.RoutingMonitor` measures. "
            f"Received: {rows[:1]}"
        )
    columns = min(3, len(panels))
    rows_of_panels = math.ceil(len(panels) / columns)
    figure, axes = charts(columns, height=3.5 * rows_of_panels, rows=rows_of_panels)
    for axis in axes[len(panels) :]:
        axis.remove()
    for axis, (end, names) in zip(axes, panels.items(), strict=False):
        for name in names:
            points = [(row["epoch"], row[name]) for row in rows if name in row]
            label = name.removesuffix(f"_{end}").replace("_", " ")
            axis.plot(*zip(*points, strict=True), "o-", ms=3, label=label)
        axis.set(title=_TITLES[end])
        if axis.dataLim.y1 <= 1.0:  # poses may be longer
            axis.set_ylim(-0.05, 1.05)
        mark_epochs(axis, rows)
        axis.legend()
    return figure
