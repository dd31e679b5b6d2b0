from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from keras_capsules.plotting.panels import (
    charts,
    colors_of,
    columns_by_model,
    label_of,
    models_of,
)

_TICKS = (0, 0.5, 1, 2, 3, 5, 7, 10, 15, 20, 25, 30, 40, 50, 70, 100)  # per cent


def viewpoint_errors(viewpoints: dict[str, list[dict]]) -> Figure:
    """Draws the error on novel images against the error on familiar ones.

    The figure has a panel for each kind of novel images, with a line for each network
    and a point for each epoch. During training a line goes from the upper right to the
    lower left. Of two networks that are equally good on familiar images, the lower one
    generalises better. Stars mark the epochs that are compared. The axes are in per
    cent, and logarithmic above 1.

    Args:
        viewpoints: a dict that contains, for each kind of novel images, a list with a
            dict for each epoch of each network. Its keys are `model`, the name of the
            network, `familiar_error` and `novel_error`, from 0 to 1, and `compared`,
            whether the epoch is compared.

    Returns:
        The figure.

    Raises:
        ValueError: there are no kinds of novel images, or one has no epochs.

    Example:

    >>> from keras_capsules import plotting
    >>> epochs = [{"model": "cnn", "familiar_error": 0.1, "novel_error": 0.4,
    ...            "compared": False},
    ...           {"model": "cnn", "familiar_error": 0.05, "novel_error": 0.3,
    ...            "compared": True}]
    >>> len(plotting.viewpoint_errors({"novel azimuth": epochs}).axes)
    1

    Reference:
        Hinton, Sabour and Frosst, Matrix capsules with EM routing (2018),
        section 5.1 and table 2.
    """
    if not viewpoints or not all(viewpoints.values()):
        raise ValueError(
            "Argument `viewpoints` must hold epochs of at least one network. Received: "
            f"viewpoints={viewpoints!r}"
        )
    figure, axes = charts(len(viewpoints), height=4)
    for axis, (novel, epochs) in zip(axes, viewpoints.items(), strict=True):
        names = "familiar_error", "novel_error", "compared"
        colors = colors_of(models_of(epochs))
        for model, *errors, chosen in columns_by_model(epochs, *names):
            familiar, unseen = ([100.0 * error for error in line] for line in errors)
            compared = [index for index, is_chosen in enumerate(chosen) if is_chosen]
            color, label = colors[model], label_of(model)
            axis.plot(familiar, unseen, "o-", ms=4, lw=0.4, color=color, label=label)
            axis.plot(
                [familiar[index] for index in compared],
                [unseen[index] for index in compared],
                "*",
                ms=14,
                color=color,
                markeredgecolor="white",
            )
        axis.set(
            xlabel="error on familiar images, %",
            ylabel="error on novel images, %",
            title=novel,
        )
        # Linear below 1 %, so that an error of 0 can be drawn.
        axis.set_xscale("symlog", linthresh=1.0)
        axis.set_yscale("symlog", linthresh=1.0)
        for side in (axis.xaxis, axis.yaxis):
            side.set_major_locator(FixedLocator(_TICKS))
            side.set_major_formatter("{x:g}")
        axis.legend()
    return figure
