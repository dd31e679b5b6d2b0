from matplotlib.figure import Figure

from keras_capsules.plotting.panels import charts


def trials(found: list[dict], score: str = "val_accuracy") -> Figure:
    """Draws the results of a hyperparameter search against each setting.

    The figure has a panel for each setting, with a dot for each trial. The size of the
    dot increases with the number of epochs of the trial. A star marks the best trial.

    Args:
        found: a list with a dict for each trial. It contains the settings by name, the
            number of `epochs`, and the score. The highest score is the best.
        score: name of the score in the dicts.

    Returns:
        The figure.

    Raises:
        ValueError: there are no trials, they have no settings or no score, or one of
            them lacks a setting of the first.

    Example:

    >>> from keras_capsules import plotting
    >>> found = [{"routing": "em", "iterations": 2, "epochs": 1, "val_accuracy": 0.8},
    ...          {"routing": "dynamic", "iterations": 3, "epochs": 3,
    ...           "val_accuracy": 0.9}]
    >>> len(plotting.trials(found).axes)
    2
    """
    settings = [name for name in (found or [{}])[0] if name not in ("epochs", score)]
    needed = {*settings, "epochs", score}
    if not settings or not all(needed <= trial.keys() for trial in found):
        raise ValueError(
            "Argument `found` must hold trials with the same settings, epochs and "
            f"{score}. Received: found={found!r}"
        )
    best = max(found, key=lambda trial: trial[score])
    scores = [trial[score] for trial in found]
    most = max(trial["epochs"] for trial in found)
    sizes = [10 + 70 * trial["epochs"] / most for trial in found]
    figure, axes = charts(len(settings), height=3.5, width=3)
    for axis, setting in zip(axes, settings, strict=True):
        values = [trial[setting] for trial in found]
        if all(isinstance(value, float) for value in values):
            if min(values) > 0 and max(values) > 10 * min(values):
                axis.set_xscale("log")
        else:
            choices = sorted(set(values), key=_order)
            axis.set_xticks(range(len(choices)), map(str, choices))
            axis.set_xlim(-0.5, len(choices) - 0.5)
            values = [choices.index(value) for value in values]
        axis.scatter(values, scores, sizes, alpha=0.5, edgecolors="none")
        place = values[found.index(best)]
        axis.plot(place, best[score], "*", ms=14, color="tab:orange")
        axis.set(xlabel=setting.replace("_", " "))
    axes[0].set_ylabel(score.replace("_", " "))
    return figure


def _order(value):
    """Returns a key that sorts numbers before other values, such as `None`."""
    number = isinstance(value, int | float)
    return not number, value if number else str(value)
