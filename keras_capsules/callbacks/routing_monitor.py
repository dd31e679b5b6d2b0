import warnings
from typing import Any

import keras
import numpy as np

from keras_capsules.callbacks._averages import averages_of
from keras_capsules.layers import CapsuleLayer

# Below it activations are the same for all images and capsules.
_DEVIATION = 0.01
_DEAD, _SATURATED = 0.01, 0.99


class RoutingMonitor(keras.callbacks.Callback):
    """Measures after each epoch what the routing of each capsule layer does.

    What it finds on one batch of images joins the logs of the epoch, as
    `LAYER_activation_std`, and through them the history, CSV files and TensorBoard.
    Name it before the callbacks that shall see it. A warning says when the activations
    of a layer carry nothing. `plotting.routing_history` draws it all. Where the
    optimizer averages the weights (`use_ema=True`) the averages are measured.

    For each layer:

    - `activation_mean`, `activation_std`: of the activations of all parents; where a
      routing computes none, of the lengths of their poses;
    - `dead`, `saturated`: the share of activations below 0.01 and above 0.99;
    - `effective_parents`: among how many parents a child is divided, in effect, divided
      by their number: `1 / (parents · Σ_j r_j²)`, where parent j has the share `r_j` of
      the child's weight. It is 1 where all parents have the same share, as without
      routing, and `1 / parents` where each child has chosen one. Each receptive field
      counts on its own;
    - `last_change`: the share of the last iteration in all changes of the weights,
      `Σ |w_T − w_(T−1)| / Σ_t Σ |w_t − w_(t−1)|`. Near 0 more iterations would change
      nothing. It is 0 with one iteration.

    Args:
        images: one batch, as the model is called with. The trace of a batch holds all
            of its votes.

    Raises:
        ValueError: the images are no array or tensor, but a data set; in `measure` and
            in `fit`, the model has no capsule layers, or is
            neither a network of this package nor made of layers, as `Sequential` and
            functional models are.

    Example:

    >>> import numpy as np
    >>> from keras_capsules import callbacks, losses, models
    >>> model = models.CapsNet((20, 20, 1), 3, filters=4, kernel_size=5)
    >>> model.compile("adam", loss=losses.MarginLoss())
    >>> images, labels = np.random.rand(6, 20, 20, 1), np.arange(6) % 3
    >>> history = model.fit(images, labels, epochs=2, verbose=0,
    ...                     callbacks=[callbacks.RoutingMonitor(images)]).history
    >>> len(history["class_capsules_effective_parents"])
    2
    """

    def __init__(self, images: Any) -> None:
        super().__init__()
        if not all(hasattr(x, "shape") for x in keras.tree.flatten(images)):
            raise ValueError(
                "Argument `images` must be one batch, an array or a tensor. "
                f"Received: {type(images).__name__}"
            )
        self.images = images
        self._warned = set()

    def measure(self, model: keras.Model) -> dict[str, dict[str, float]]:
        """Measures what the routing of each capsule layer of a model does.

        Args:
            model: a network of this package, or a `Sequential` or functional model with
                capsule layers.

        Returns:
            A dict for each layer, by its name, of the quantities above.
        """
        traces = _traces(model, self.images)
        return {name: _statistics(trace) for name, trace in traces.items()}

    def on_train_begin(self, logs=None):
        _check(self.model)

    def on_epoch_end(self, epoch, logs=None):
        with averages_of(self.model):
            measured = self.measure(self.model)
        self._warned |= _without_activations(self.model)
        for layer, found in measured.items():
            logs |= {f"{layer}_{name}": value for name, value in found.items()}
            if found["activation_std"] < _DEVIATION and layer not in self._warned:
                self._warned.add(layer)
                warnings.warn(
                    f"The activations of {layer} carry nothing: after epoch "
                    f"{epoch + 1} they are {found['activation_mean']:.3f} ± "
                    f"{found['activation_std']:.3f} for all images and capsules.",
                    stacklevel=2,
                )


def _capsule_layers(model):
    return [layer for layer in model.layers if isinstance(layer, CapsuleLayer)]


def _without_activations(model):
    """Names of layers in which neither activations nor lengths say who is present."""
    layers = getattr(model, "capsule_layers", None) or _capsule_layers(model)
    return {
        layer.name
        for layer in layers
        if not (
            layer.routing.computes_activations or layer.routing.length_is_activation
        )
    }


def _check(model):
    traced = hasattr(model, "trace")
    if not traced and not (_capsule_layers(model) and hasattr(model, "inputs")):
        raise ValueError(
            "RoutingMonitor needs a network of this package, or a Sequential or "
            f"functional model with capsule layers. Received: {type(model).__name__}"
        )


def _traces(model, images):
    """The trace of each capsule layer, by its name."""
    _check(model)
    if hasattr(model, "trace"):
        return model.trace(images)
    layers = _capsule_layers(model)
    # Keras warns where one tensor is given and a list of one is expected.
    inputs = model.inputs[0] if len(model.inputs) == 1 else model.inputs
    inputs = keras.Model(inputs, [layer.input for layer in layers])(images)
    return {layer.name: layer.trace(x) for layer, x in zip(layers, inputs, strict=True)}


def _statistics(trace):
    """The quantities of one layer."""
    arrays = {name: keras.ops.convert_to_numpy(x) for name, x in trace.items()}
    weights = arrays["weights"]  # (iterations, batch, parents, children)
    activations = arrays.get("activations")
    if activations is None:
        activations = np.linalg.norm(arrays["parents"], axis=(-2, -1))
    last = activations[-1]  # (batch, parents)

    # With a bias, as in self-attention, weights can be negative.
    amounts = np.abs(weights[-1]).swapaxes(1, 2)  # (batch, children, parents)
    total = amounts.sum(-1)
    taken = total > 0.0  # a masked child, or one that is not active, has no parents
    shares = amounts[taken] / total[taken][:, None]
    effective = 1.0 / np.square(shares).sum(-1)
    steps = np.abs(np.diff(weights, axis=0)).sum((1, 2, 3))  # (iterations - 1,)
    found = {
        "activation_mean": last.mean(),
        "activation_std": last.std(),
        "dead": (last < _DEAD).mean(),
        "saturated": (last > _SATURATED).mean(),
        "effective_parents": effective.mean() / weights.shape[2] if taken.any() else 1,
        "last_change": steps[-1] / steps.sum() if steps.sum() > 0.0 else 0.0,
    }
    return {name: float(value) for name, value in found.items()}
