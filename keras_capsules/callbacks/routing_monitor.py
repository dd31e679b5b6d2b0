import warnings
from typing import Any

import keras
import numpy as np

from keras_capsules.callbacks._averages import averages_of
from keras_capsules.layers import CapsuleLayer

# A smaller standard deviation means equal activations for all images and capsules.
_DEVIATION = 0.01
_DEAD, _SATURATED = 0.01, 0.99


class RoutingMonitor(keras.callbacks.Callback):
    """Measures statistics of the routing of each capsule layer after each epoch.

    The statistics are measured on one batch of images and added to the logs of the
    epoch under names such as `LAYER_activation_std`. From the logs they reach the
    history, CSV files and TensorBoard. List this callback before the callbacks that use
    the statistics. `plotting.routing_history` draws them. A warning is given if the
    activations of a layer are almost equal for all images and capsules, with a standard
    deviation below 0.01. Layers whose pose lengths are not activations are not checked.
    If the optimizer averages the weights (`use_ema=True`), the statistics are those of
    the averages.

    For each layer:

    - `activation_mean`, `activation_std`: mean and standard deviation of the
      activations of all parents, or of the lengths of their poses if the routing
      computes no activations;
    - `dead`, `saturated`: the fractions of activations below 0.01 and above 0.99;
    - `effective_parents`: the effective number of parents of a child, divided by the
      number of its parents: `1 / (parents · Σ_j r_j²)`, where `r_j` is the fraction of
      the child's weight that parent j has. The value is 1 if all parents have equal
      fractions, as without routing, and `1 / parents` if each child is assigned to
      one parent. It is computed for each receptive field and averaged;
    - `last_change`: the change of the weights in the last iteration, divided by the sum
      of the changes in all iterations,
      `Σ |w_T − w_(T−1)| / Σ_t Σ |w_t − w_(t−1)|`. A value near 0 means that the routing
      has converged. It is 0 with one iteration.

    Args:
        images: one batch of inputs of the model, an array or a tensor, or several of
            them for a model with several inputs. The votes of the whole batch are kept
            in memory at once, so use a small batch.

    Raises:
        ValueError: `images` is not an array or a tensor, but a data set for example.
            In `measure` and `fit`: the model has no capsule layers, or is not a network
            of this package, a `Sequential` or a functional model.

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
        """Measures statistics of the routing of each capsule layer of a model.

        Args:
            model: a network of this package, or a `Sequential` or functional model with
                capsule layers.

        Returns:
            A dict with the statistics of each layer, by the name of the layer.
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
                    f"The activations of {layer} carry no information: after epoch "
                    f"{epoch + 1} they are {found['activation_mean']:.3f} ± "
                    f"{found['activation_std']:.3f} for all images and capsules.",
                    stacklevel=2,
                )


def _capsule_layers(model):
    return [layer for layer in model.layers if isinstance(layer, CapsuleLayer)]


def _without_activations(model):
    """Returns the names of layers whose parents have no kind of activation.

    Their routing computes no activations, and the lengths of poses are none either.
    """
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
    """Returns the trace of each capsule layer, by its name."""
    _check(model)
    if hasattr(model, "trace"):
        return model.trace(images)
    layers = _capsule_layers(model)
    # Keras warns if one tensor is given and a list of one tensor is expected.
    inputs = model.inputs[0] if len(model.inputs) == 1 else model.inputs
    inputs = keras.Model(inputs, [layer.input for layer in layers])(images)
    return {layer.name: layer.trace(x) for layer, x in zip(layers, inputs, strict=True)}


def _statistics(trace):
    """Computes the statistics of one layer from its trace."""
    arrays = {name: keras.ops.convert_to_numpy(x) for name, x in trace.items()}
    weights = arrays["weights"]  # (iterations, batch, parents, children)
    activations = arrays.get("activations")
    if activations is None:
        activations = np.linalg.norm(arrays["parents"], axis=(-2, -1))
    last = activations[-1]  # (batch, parents)

    # With a bias, as in self-attention, weights can be negative.
    amounts = np.abs(weights[-1]).swapaxes(1, 2)  # (batch, children, parents)
    total = amounts.sum(-1)
    taken = total > 0.0  # the weights of a masked or inactive child are all 0
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
