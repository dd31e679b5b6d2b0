import statistics

from matplotlib.figure import Figure

from keras_capsules.plotting.panels import charts, colors_of

# Published errors: under which name, and how they are drawn.
_PUBLISHED = {
    "paper": {"marker": "*", "ms": 9, "color": "black"},
    "best open code": {"marker": "x", "color": "gray"},
}


def errors(rows: list[dict]) -> Figure:
    """Draws errors of several runs, and the errors that others report.

    Each run is a dot, orange for a CNN and blue for other networks. With three runs or
    more a line marks their mean.

    Args:
        rows: a dict for each line of the figure: `label`, and under `ours`, `paper`
            and `best open code` a list of errors in per cent, which may be empty. The
            label of a CNN contains "CNN".

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
            f"Argument `rows` must hold one row at least. Received: rows={rows!r}"
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
    axis.update_datalim([(0.0, 0.0)])  # the margin is a share of the whole axis
    axis.autoscale_view(scaley=False)
    axis.set_xlim(left=0.0)
    axis.set_xlabel("error, %")
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
