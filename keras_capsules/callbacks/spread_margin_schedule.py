import keras

from keras_capsules import _backend, validation
from keras_capsules.losses import SpreadLoss


@keras.saving.register_keras_serializable(package="keras_capsules")
class SpreadMarginSchedule(keras.callbacks.Callback):
    """Increases the margin of the spread loss during training.

    In epoch e, counted from 0, the margin is `min(start + e · step, stop)`, in
    training and in validation. The margin depends on the epoch alone, so a resumed
    training has the right margin. The loss increases with the margin: to compare
    epochs, use the accuracy.

    With `steps`, batch b of an epoch of B batches has the margin
    `min(start + (e · B + b) // steps · step, stop)`, and the validation has the margin
    of the last batch. If `steps_per_execution` is above 1, Keras does not call
    callbacks between the batches of one execution. All of them have the margin of the
    first, so an increase can be up to `steps_per_execution - 1` batches late.

    The margin of the validation is added to the logs of the epoch as `margin`. On JAX
    the training step is compiled again after each increase.

    Args:
        start: the first margin.
        step: the size of an increase.
        stop: the largest margin. It is kept once it is reached.
        steps: number of batches between two increases; by default one epoch.

    Raises:
        ValueError: the arguments don't satisfy `0 < start <= stop` and `step > 0`, or
            `steps` is not a positive integer. In `fit`: the model isn't compiled with a
            `SpreadLoss`, or `steps` is given and the number of batches of an epoch is
            unknown.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> from keras_capsules import callbacks, losses
    >>> model = keras.Sequential([keras.layers.Dense(3, "sigmoid")])
    >>> model.compile("adam", loss=losses.SpreadLoss())
    >>> schedule = callbacks.SpreadMarginSchedule(start=0.2, step=0.1, stop=0.9)
    >>> history = model.fit(np.eye(3), np.arange(3), epochs=3, verbose=0,
    ...                     callbacks=[schedule]).history
    >>> [round(margin, 1) for margin in history["margin"]]
    [0.2, 0.3, 0.4]

    Reference:
        Hinton, Sabour and Frosst, Matrix capsules with EM routing (2018),
        section 4.1.
    """

    def __init__(
        self,
        start: float = 0.2,
        step: float = 0.1,
        stop: float = 0.9,
        steps: int | None = None,
    ) -> None:
        super().__init__()
        self.start = validation.check_positive("start", start)
        self.step = validation.check_positive("step", step)
        self.stop = validation.check_positive("stop", stop)
        if start > stop:
            raise ValueError(
                "Argument `start` must not exceed `stop`. "
                f"Received: start={start}, stop={stop}"
            )
        self.steps = (
            None if steps is None else validation.check_positive_integer("steps", steps)
        )
        self._epoch = None  # the current epoch

    def on_train_begin(self, logs=None):
        self._losses = [
            loss
            for loss in keras.tree.flatten(self.model.loss)
            if isinstance(loss, SpreadLoss)
        ]
        if not self._losses:
            raise ValueError(
                "SpreadMarginSchedule needs a model that is compiled with a "
                f"SpreadLoss. Received: loss={self.model.loss!r}"
            )
        if self.steps is not None and self.params["steps"] is None:
            raise ValueError(
                "Argument `steps` needs data whose number of batches is known; pass "
                f"`steps_per_epoch` to `fit`. Received: steps={self.steps}"
            )

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self._set_margin(batch=0)

    def on_train_batch_begin(self, batch, logs=None):
        self._set_margin(batch)

    def on_test_begin(self, logs=None):
        if self._epoch is not None:  # validation during `fit`, not `evaluate`
            self._set_margin_of_the_last_batch()

    def on_epoch_end(self, epoch, logs=None):
        self._set_margin_of_the_last_batch()
        self._epoch = None
        logs["margin"] = self._losses[0].margin

    def get_config(self) -> dict:
        return {
            "start": self.start,
            "step": self.step,
            "stop": self.stop,
            "steps": self.steps,
        }

    @classmethod
    def from_config(cls, config: dict) -> "SpreadMarginSchedule":
        return cls(**config)

    def _set_margin_of_the_last_batch(self):
        if self.steps is not None:
            self._set_margin(self.params["steps"] - 1)

    def _set_margin(self, batch):
        raises = self._epoch
        if self.steps is not None:
            raises = (self._epoch * self.params["steps"] + batch) // self.steps
        margin = min(self.start + raises * self.step, self.stop)
        if any(loss.margin != margin for loss in self._losses):
            for loss in self._losses:
                loss.margin = margin
            _backend.recompile(self.model)
