from typing import Any

from matplotlib.figure import Figure

from keras_capsules.plotting.histories import rows_of
from keras_capsules.plotting.panels import charts, mark_epochs


def curves(history: Any) -> Figure:
    """Draws the loss and the metrics of each epoch, in training and validation.

    The figure has a panel for each quantity that is also measured in validation, such
    as `loss` and `val_loss`.

    Args:
        history: the object that `model.fit` returns; its `history`, a dict with a list
            for each quantity; or a list with a dict for each epoch, such as the
            `history` of `callbacks.Checkpoint`.

    Returns:
        The figure.

    Raises:
        ValueError: the history is empty or has no validation, or a list in it lacks
            epochs.

    Example:

    >>> from keras_capsules import plotting
    >>> epochs = [{"epoch": 1, "loss": 0.5, "val_loss": 0.6},
    ...           {"epoch": 2, "loss": 0.3, "val_loss": 0.4}]
    >>> len(plotting.curves(epochs).axes)
    1
    """
    rows = rows_of(history)
    quantities = dict.fromkeys(name for row in rows for name in row)
    names = [name for name in quantities if f"val_{name}" in quantities]
    if not names:
        raise ValueError(
            "Argument `history` must hold at least one epoch with a quantity that is "
            f"also validated, such as loss and val_loss. Received: {rows[:1]}"
        )
    figure, axes = charts(len(names))
    for axis, name in zip(axes, names, strict=True):
        for key, label in ((name, "training"), (f"val_{name}", "validation")):
            points = [(row["epoch"], row[key]) for row in rows if key in row]
            axis.plot(*zip(*points, strict=True), "o-", ms=3, label=label)
        axis.set(title=name.replace("_", " "))
        if name == "loss":
            axis.set_yscale("log")
        mark_epochs(axis, rows)
        axis.legend()
    return figure
