"""Histories of trainings."""

from typing import Any

import keras


def rows_of(history: Any) -> list[dict]:
    """Converts a history to a list with a dict for each epoch.

    Args:
        history: the object that `model.fit` returns; its `history`, a dict with a list
            for each quantity; or a list with a dict for each epoch, such as the
            `history` of `callbacks.Checkpoint`.

    Returns:
        A list of dicts. Each contains its `epoch`, counted from 1.

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
                "Argument `history` must hold one value of each quantity for each "
                f"epoch. Received: {len(values)} of {name} for {epochs} epochs. If "
                "some are missing, use the `history` of `callbacks.Checkpoint`."
            )
    return [
        {"epoch": first + index + 1} | {name: x[index] for name, x in history.items()}
        for index in range(epochs)
    ]
