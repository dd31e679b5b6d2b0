from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_capsules.robustness.gradient import scores


def accuracy_under_attack(
    models: Mapping[str, keras.Model],
    data: Iterable[tuple[Any, Any]],
    attack: Callable,
    epsilons: Sequence[float],
    verbose: int = 0,
) -> list[dict]:
    """Computes the accuracy of networks under an adversarial attack.

    Args:
        models: a dict of networks by name.
        data: batches of images and labels, such as a batched `tf.data.Dataset`.
        attack: a function of model, images, labels and epsilon that returns the
            changed images. It can be `fgsm`, `bim`, or one of them with other
            arguments, such as `functools.partial(bim, steps=5)`.
        epsilons: the largest changes of a pixel, in the units of the pixels. 0 gives
            the accuracy without attack.
        verbose: 1 shows a progress bar, 0 does not.

    Returns:
        A list with a dict for each network and each epsilon. Its keys are `model`,
        `epsilon` and `accuracy`, a fraction from 0 to 1. `plotting.attack_curves` draws
        the list.

    Raises:
        ValueError: `data` is empty, or the attack raises it.

    Example:

    >>> import numpy as np
    >>> from keras_capsules import models, robustness
    >>> cnn = models.BaselineCNN((8, 8, 1), classes=3, filters=(2, 2), units=4)
    >>> cnn.compile("adam", "sparse_categorical_crossentropy")
    >>> data = [(np.full((3, 8, 8, 1), 0.5), np.arange(3))]
    >>> rows = robustness.accuracy_under_attack(
    ...     {"cnn": cnn}, data, robustness.fgsm, epsilons=[0.0, 0.1])
    >>> [(row["model"], row["epsilon"]) for row in rows]
    [('cnn', 0.0), ('cnn', 0.1)]

    Reference:
        Hinton, Sabour and Frosst, Matrix capsules with EM routing (2018),
        section 6.
    """
    batches = [(np.asarray(images), np.asarray(labels)) for images, labels in data]
    if not batches:
        raise ValueError("Argument `data` must hold at least one batch. Received none.")
    work = len(models) * len(epsilons) * len(batches)
    progress = keras.utils.Progbar(work, verbose=verbose, unit_name="batch")
    rows = []
    for name, model in models.items():
        for epsilon in epsilons:
            right = []
            for images, labels in batches:
                changed = attack(model, images, labels, epsilon)
                outputs = scores(model.predict_on_batch(changed))
                right.extend(_predicted(outputs) == _classes(labels))
                progress.add(1)
            accuracy = float(np.mean(right))
            rows.append({"model": name, "epsilon": epsilon, "accuracy": accuracy})
    return rows


def _predicted(outputs):
    """Returns the class of each image; of a single class, whether it is present."""
    return outputs.argmax(-1) if outputs.shape[-1] > 1 else outputs[:, 0] > 0.5


def _classes(labels):
    """Returns integer labels for integer or one-hot labels."""
    one_hot = labels.ndim == 2 and labels.shape[1] > 1
    return labels.argmax(-1) if one_hot else labels.reshape(-1)
