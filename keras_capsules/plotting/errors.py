from matplotlib.figure import Figure

from keras_capsules.plotting.panels import charts

_MARKERS = {"ours": "o", "paper": "*", "best open code": "x"}


def errors(rows: list[dict]) -> Figure:
    """Draws our errors beside those that papers report.

    Args:
        rows: a dict for each line of the figure: `label`, and under `ours`, `paper`
            and `best open code` a list of errors in per cent, which may be empty.

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
    for who, marker in _MARKERS.items():
        points = [(error, line) for line, row in enumerate(rows) for error in row[who]]
        if points:
            axis.plot(*zip(*points, strict=True), marker, label=who)
    axis.set_yticks(range(len(rows)), [row["label"] for row in rows])
    axis.invert_yaxis()
    axis.update_datalim([(0.0, 0.0)])  # or the margin is a share of what is drawn
    axis.autoscale_view()
    axis.set_xlim(left=0.0)
    axis.set_xlabel("error, %")
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
