from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from keras_capsules.plotting.panels import charts


def curves(history: list[dict]) -> Figure:
    """Draws how loss and accuracy changed from epoch to epoch.

    Each quantity that has a validation twin (`loss` and `val_loss`) gets a
    panel.

    Args:
        history: a dict for each epoch, as `callbacks.Checkpoint` keeps them.

    Returns:
        The figure.

    Raises:
        ValueError: the history is empty or has no validation.

    Example:

    >>> from keras_capsules import plotting
    >>> epochs = [{"epoch": 1, "loss": 0.5, "val_loss": 0.6},
    ...           {"epoch": 2, "loss": 0.3, "val_loss": 0.4}]
    >>> len(plotting.curves(epochs).axes)
    1
    """
    first = history[0] if history else {}
    names = [name for name in first if f"val_{name}" in first]
    if not names:
        raise ValueError(
            "Argument `history` must hold at least one epoch with a quantity and its "
            f"validation twin, as loss and val_loss. Received: {history[:1]}"
        )
    figure, axes = charts(len(names))
    epochs = [row["epoch"] for row in history]
    for axis, name in zip(axes, names, strict=True):
        for key, label in ((name, "training"), (f"val_{name}", "validation")):
            axis.plot(epochs, [row[key] for row in history], "o-", ms=3, label=label)
        axis.set(xlabel="epoch", title=name.replace("_", " "))
        if name == "loss":
            axis.set_yscale("log")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.legend()
    return figure
