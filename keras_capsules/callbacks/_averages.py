"""Moving averages of the weights of a model, kept by its optimizer."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras


@contextmanager
def averages_of(model: keras.Model) -> Iterator[None]:
    """Replaces the weights of a model by their averages within a `with` block.

    If the optimizer keeps no averages, the weights are unchanged.

    Args:
        model: a compiled model.
    """
    if not averages_weights(model):
        yield
        return
    swap_averages(model)
    try:
        yield
    finally:
        swap_averages(model)


def averages_weights(model: keras.Model) -> bool:
    """Returns whether the optimizer of a model averages the weights (`use_ema`)."""
    # In half precision the optimizer is wrapped in one that scales the loss.
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    return getattr(optimizer, "use_ema", False)


def swap_averages(model: keras.Model) -> None:
    """Swaps the weights of a model with their averages."""
    swap = keras.callbacks.SwapEMAWeights()
    swap.set_model(model)
    swap.on_test_begin()
