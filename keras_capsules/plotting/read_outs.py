from matplotlib.figure import Figure

from keras_capsules.plotting.panels import (
    charts,
    colors_of,
    columns_by_model,
    label_of,
    models_of,
)


def read_outs(scores: dict[str, list[dict]]) -> Figure:
    """Draws how well a linear regression predicts the viewpoint from poses.

    The figure has a panel for each angle, with a point for each category and each
    network.

    Args:
        scores: a dict that contains, for each angle, a list with a dict for each
            category and each network. Its keys are `model`, the name of the network,
            `category` and `r2`, the fraction of the variance of the angle that the
            read-out explains.

    Returns:
        The figure.

    Raises:
        ValueError: there are no angles, or one has no scores.

    Example:

    >>> from keras_capsules import plotting
    >>> scores = [{"model": "cnn", "category": "cars", "r2": 0.2},
    ...           {"model": "cnn", "category": "trucks", "r2": 0.3}]
    >>> len(plotting.read_outs({"azimuth": scores}).axes)
    1
    """
    if not scores or not all(scores.values()):
        raise ValueError(
            "Argument `scores` must hold scores of at least one angle. Received: "
            f"scores={scores!r}"
        )
    figure, axes = charts(len(scores), width=6.0)
    for axis, (angle, rows) in zip(axes, scores.items(), strict=True):
        colors = colors_of(models_of(rows))
        for model, *columns in columns_by_model(rows, "category", "r2"):
            axis.plot(*columns, "o", ms=6, color=colors[model], label=label_of(model))
        axis.axhline(0.0, color="gray", lw=0.8)
        axis.set(
            ylabel="R² on objects not used for the fit", title=angle, ylim=(None, 1)
        )
        axis.tick_params("x", labelrotation=15)
        axis.legend()
    return figure
