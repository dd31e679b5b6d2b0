from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from keras_capsules.plotting.histories import rows_of
from keras_capsules.plotting.panels import charts


def curves(history: Any) -> Figure:
    """Draws the loss and the accuracy of each epoch.

    Each quantity that has a validation twin (`loss` and `val_loss`) gets a
    panel.

    Args:
        history: what `model.fit` returns, or its `history`, a list for each
            quantity; or a dict for each epoch, as `callbacks.Checkpoint` keeps them.

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
            "Argument `history` must hold at least one epoch with a quantity and its "
            f"validation twin, as loss and val_loss. Received: {rows[:1]}"
        )
    figure, axes = charts(len(names))
    for axis, name in zip(axes, names, strict=True):
        for key, label in ((name, "training"), (f"val_{name}", "validation")):
            points = [(row["epoch"], row[key]) for row in rows if key in row]
            axis.plot(*zip(*points, strict=True), "o-", ms=3, label=label)
        axis.set(xlabel="epoch", title=name.replace("_", " "))
        if name == "loss":
            axis.set_yscale("log")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.legend()
    return figure
