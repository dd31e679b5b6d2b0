"""What a training was, epoch by epoch."""

from typing import Any

import keras


def rows_of(history: Any) -> list[dict]:
    """A dict for each epoch, whichever form a history has.

    Args:
        history: what `model.fit` returns, or its `history`, a list for each
            quantity; or a dict for each epoch, as `callbacks.Checkpoint` keeps them.

    Returns:
        A list of dicts, each with its `epoch`, counted from 1.

    Raises:
        ValueError: a list in the history lacks epochs.

    Example:

    >>> rows_of({"loss": [0.5, 0.3]})
    [{'epoch': 1, 'loss': 0.5}, {'epoch': 2, 'loss': 0.3}]
    """
    first = 0
    if isinstance(history, keras.callbacks.History):
        first, history = min(history.epoch, default=0), history.history
    if not isinstance(history, dict):
        return list(history)
    epochs = max(map(len, history.values()), default=0)
    for name, values in history.items():
        if len(values) != epochs:
            raise ValueError(
                "Argument `history` must hold as many values of each quantity as "
                f"there were epochs. Received: {len(values)} of {name} for {epochs} "
                "epochs. `callbacks.Checkpoint` keeps which epoch a value belongs to."
            )
    return [
        {"epoch": first + index + 1} | {name: x[index] for name, x in history.items()}
        for index in range(epochs)
    ]
