"""The averages that an optimizer keeps of the weights of a model."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras


@contextmanager
def averages_of(model: keras.Model) -> Iterator[None]:
    """Within it the model has the averages that its optimizer keeps of its weights."""
    if not averages_weights(model):
        yield
        return
    swap_averages(model)
    try:
        yield
    finally:
        swap_averages(model)


def averages_weights(model: keras.Model) -> bool:
    """Whether the optimizer of a model averages its weights (`use_ema`)."""
    # In half precision it is an optimizer within the one that scales the loss.
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    return getattr(optimizer, "use_ema", False)


def swap_averages(model: keras.Model) -> None:
    """Exchanges the weights of a model and their averages."""
    swap = keras.callbacks.SwapEMAWeights()
    swap.set_model(model)
    swap.on_test_begin()
