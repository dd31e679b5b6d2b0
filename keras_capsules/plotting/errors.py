import statistics

from matplotlib.figure import Figure

from keras_capsules.plotting.panels import charts, colors_of

# Names and plot styles of published errors.
_PUBLISHED = {
    "paper": {"marker": "*", "ms": 9, "color": "black"},
    "best open code": {"marker": "x", "color": "gray"},
}


def errors(rows: list[dict]) -> Figure:
    """Draws the errors of several runs and published errors.

    Each run is a dot, orange for a CNN and blue for other networks. With three runs or
    more, a vertical line marks their mean.

    Args:
        rows: a list with a dict for each line of the figure. `label` is the name of the
            line; the label of a CNN contains "CNN". `ours`, `paper` and
            `best open code` are lists of errors in per cent, which can be empty.

    Returns:
        The figure.

    Raises:
        ValueError: there are no rows.

    Example:

    >>> from keras_capsules import plotting
    >>> row = {"label": "MNIST", "ours": [0.4, 0.5], "paper": [0.25],
    ...        "best open code": []}
    >>> len(plotting.errors([row]).axes)
    1
    """
    if not rows:
        raise ValueError(
            f"Argument `rows` must hold at least one row. Received: rows={rows!r}"
        )
    figure, (axis,) = charts(1, height=1.2 + 0.35 * len(rows), width=8.0)
    for kind, color in colors_of(["ours", "ours, CNN"]).items():
        lines = [
            (line, row["ours"])
            for line, row in enumerate(rows)
            if ("cnn" in row["label"].lower()) == ("CNN" in kind)
        ]
        points = [(error, line) for line, errors in lines for error in errors]
        if points:
            axis.plot(*zip(*points, strict=True), "o", color=color, label=kind)
        for line, errors in lines:
            if len(errors) > 2:
                axis.plot(statistics.mean(errors), line, "|", ms=16, color=color)
    for who, style in _PUBLISHED.items():
        points = [(error, line) for line, row in enumerate(rows) for error in row[who]]
        if points:
            axis.plot(*zip(*points, strict=True), ls="", **style, label=who)
    axis.set_yticks(range(len(rows)), [row["label"] for row in rows])
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.update_datalim([(0.0, 0.0)])  # the margin is relative to the axis from 0 on
    axis.autoscale_view(scaley=False)
    axis.set_xlim(left=0.0)
    axis.set_xlabel("error, %")
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
