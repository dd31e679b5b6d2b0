"""Checks for authors of routings and of capsule layers."""

import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_capsules import layers, validation
from keras_capsules import routing as routings
from keras_capsules._backend import float64, gradients, run_exported
from keras_capsules.ops import ReceptiveFields

__all__ = ["check_layer", "check_routing"]

_STEEPEST = 3e4  # float16 ends at 65,504


def check_routing(routing: Any) -> None:
    """Checks a routing: gradients, blocks, masks, saving, loading and more.

    - Outputs have the shapes that `compute_output_shape` returns, for vectors and for
      matrices, with a single receptive field and with fields that overlap.
    - Two calls with the same inputs return the same outputs.
    - The gradients of the poses, the kernel, the activations and the weights of the
      routing equal those of plain automatic differentiation through `trace`, in
      float64.
    - `block` and `loop`, if the routing has these arguments, change neither outputs nor
      gradients.
    - Outputs and gradients with a masked child equal those without the child. The
      routing can be built for an unknown number of children, which share its weights.
    - Outputs for bfloat16 and float16 inputs are float32, and close to those for
      float32.
    - Outputs are finite for extreme inputs: poses that are zero, very small or very
      large, children that are identical or nearly so, and activations that are all 1, 0
      or almost 0. Activations lie from 0 to 1. If the routing computes none, the
      lengths of poses do, unless `length_is_activation` is `False`. The gradients of a
      sum of outputs with weights of size 1 are at most 30,000, half of the largest
      float16. For poses of a size above 1 the limit is 30,000 times that size.
    - A model with the routing is saved and loaded, and returns the same outputs. On
      TensorFlow it can be exported as a SavedModel.

    The check takes seconds on TensorFlow and PyTorch. On JAX it also takes the time to
    compile.

    Args:
        routing: a routing, its name or its config. It is copied and not changed. The
            weights of the copies are random.

    Raises:
        AssertionError: a check fails. The message says which, and by how much.
        ValueError: the argument is not a routing, or a hook returns a wrong shape.

    Example:

    >>> from keras_capsules import testing
    >>> testing.check_routing("dynamic")
    """
    routing = routings.get(routing)
    case = _cases()[0]
    _check_repetition(routing, case)
    with float64():
        for each in _cases():
            _check_case(routing, each)
        _check_mask(routing, case)
    _check_half_precision(routing, case)
    _check_nasty_input(routing, case)
    layer = layers.DigitCapsule(3, 4, routing=_copy(routing))
    _check_saved(layer, (3, 5, 4), _name(routing))


def check_layer(layer: Any, poses_shape: tuple[int, ...] = (2, 5, 4, 3, 4, 4)) -> None:
    """Checks a capsule layer: shapes, gradients, saving, loading and more.

    - Outputs have the shapes that `compute_output_shape` returns.
    - The routing receives poses and a kernel of the shapes that `routing_shapes`
      returns.
    - Every trainable weight has a finite gradient that is not zero, and all outputs are
      finite.
    - `from_config` creates a layer with the same config. A model with the layer is
      saved and loaded, and returns the same outputs. On TensorFlow it can be exported
      as a SavedModel.
    - With a mixed dtype policy the kernel stays in float32, and the outputs change
      little.

    Args:
        layer: a layer that derives from `layers.CapsuleLayer`. It is copied and not
            changed.
        poses_shape: shape of the poses to call the layer with, the batch first.

    Raises:
        AssertionError: a check fails. The message says which.
        ValueError: the argument is not a capsule layer, or the layer does not accept
            poses of this shape.

    Example:

    >>> from keras_capsules import layers, testing
    >>> testing.check_layer(layers.ConvCapsule(3))
    """
    if not isinstance(layer, layers.CapsuleLayer):
        raise ValueError(
            "Argument `layer` must derive from layers.CapsuleLayer. Received: "
            f"layer={layer!r}"
        )
    poses_shape = validation.check_positive_integers("poses_shape", poses_shape, None)
    inputs = _layer_inputs(layer, poses_shape)
    _check_layer_shapes(_copy(layer), inputs)
    _check_layer_gradients(_copy(layer), inputs)
    _check_mixed_policy(layer, inputs)
    again = _copy(layer)
    _expect(
        again.get_config() == layer.get_config(),
        f"The config of {_name(layer)} must make the same layer again. Received: "
        f"{again.get_config()}, expected: {layer.get_config()}",
    )
    _check_saved(again, poses_shape, _name(layer))


# Inputs and copies of routings.


def _cases():
    """Returns two sets of arguments of a routing."""
    rng = np.random.default_rng(0)
    # Three images of two fields, which share two of their four children.
    fields = ReceptiveFields((2, 3), (2, 2), (1, 1), "valid", types=1)
    return [
        {
            "poses": rng.normal(size=(batch, children, rows, 4)),
            "kernel": 0.5 * rng.normal(size=(children, 3, 4, columns)),
            "activations": rng.uniform(0.1, 0.9, size=(batch, children)),
            "receptive_fields": receptive_fields,
        }
        for batch, children, rows, columns, receptive_fields in (
            (4, 5, 1, 6, None),
            (6, 4, 2, 3, fields),
        )
    ]


def _copy(layer, **changes):
    """Returns a new layer of the same config, without weights."""
    return type(layer).from_config({**layer.get_config(), **changes})


def _ready(routing, case, **changes):
    """Returns a copy of a routing with random weights, the same for each call."""
    routing = _copy(routing, **changes)
    routing.build(case["poses"].shape, case["kernel"].shape)
    _set_at_random(routing.trainable_variables)
    return routing


def _set_at_random(variables):
    """Adds noise to variables, so that they differ from their initial values."""
    rng = np.random.default_rng(2)
    for variable in variables:
        noise = 0.1 * rng.normal(size=variable.shape)
        variable.assign(ops.convert_to_numpy(variable) + noise)


def _differentiated(routing, case, trace=False):
    """Returns a function of a case that computes outputs and gradients of a routing.

    Args:
        routing: a routing that is built.
        case: arguments of a routing, in the shapes that the function will be given.
        trace: whether the outputs are those of the last iteration of `trace`.
    """
    names = [name for name, x in case.items() if isinstance(x, np.ndarray)]
    variables = routing.trainable_variables

    def function(*tensors):
        arguments = {**case, **dict(zip(names, tensors, strict=False))}
        learned = list(zip(variables, tensors[len(names) :], strict=True))
        with keras.StatelessScope(learned):
            if trace:
                found = routing.trace(**arguments)
                kept = ["parents", "activations"][: 1 + routing.computes_activations]
                outputs = [found[name][-1] for name in kept]
            else:
                outputs = keras.tree.flatten(routing(**arguments))
        return _weighted_sum(outputs), outputs

    compiled = gradients(function)

    def call(case, dtype):
        arrays = [*(case[name] for name in names), *map(_array, variables)]
        outputs, found = compiled(*(_tensor(x, dtype) for x in arrays))
        found = map(_array, found)
        paths = [*names, *(variable.path for variable in variables)]
        return outputs, dict(zip(paths, found, strict=True))

    return call


def _weighted_sum(outputs):
    rng = np.random.default_rng(1)
    weights = (_tensor(rng.normal(size=x.shape), x.dtype) for x in outputs)
    return sum(ops.sum(w * x) for w, x in zip(weights, outputs, strict=True))


def _tensor(x, dtype):
    """Converts an array to a tensor; other objects are returned unchanged."""
    if not isinstance(x, np.ndarray):
        return x
    return ops.cast(ops.convert_to_tensor(x), dtype)


def _array(x):
    """Converts a tensor or a variable to an array, half precision to float32."""
    if keras.backend.standardize_dtype(x.dtype) in ("bfloat16", "float16"):
        x = ops.cast(x, "float32")
    return ops.convert_to_numpy(x)


# The checks.


def _expect(condition, message):
    if not condition:
        raise AssertionError(message)


def _expect_close(found, expected, tolerance, message, scale=None):
    """Compares arrays, relative to the largest element of the expected one."""
    scale = max(scale or np.abs(expected).max(), 1e-3)
    error = np.abs(found - expected).max() / scale
    _expect(
        error <= tolerance,
        f"{message} differ by {error:.1e} of the largest, more than {tolerance:.0e}.",
    )


def _name(layer):
    return type(layer).__name__


def _check_case(routing, case):
    """Checks shapes and gradients, also with other settings, all in float64."""
    name, route = _name(routing), _ready(routing, case, dtype="float64")
    call = _differentiated(route, case)
    outputs, slopes = call(case, "float64")
    shapes = route.compute_output_shape(case["poses"].shape, case["kernel"].shape)
    shapes = shapes if route.computes_activations else (shapes,)
    found, expected = [tuple(x.shape) for x in outputs], [tuple(x) for x in shapes]
    _expect(
        found == expected,
        f"{name} must return what compute_output_shape says, {expected}. Received: "
        f"{found}",
    )
    traced = _differentiated(route, case, trace=True)(case, "float64")
    _compare((outputs, slopes), traced, f"{name} and plain automatic differentiation")
    for settings in _other_settings(routing):
        other = _ready(routing, case, dtype="float64", **settings)
        found = _differentiated(other, case)(case, "float64")
        _compare(found, (outputs, slopes), f"{name} with {settings} and without")


def _check_mask(routing, case):
    """Compares a masked second child with a missing second child, in float64."""
    name, route = _name(routing), _copy(routing, dtype="float64")
    poses, kernel, activations, _ = case.values()
    try:
        route.build((None, None, *poses.shape[2:]), (None, *kernel.shape[1:]))
    except (TypeError, ValueError) as error:
        raise AssertionError(
            f"`build` of {name} must take shapes with None for the number of children, "
            f"which then share what is learned: {error}"
        ) from error
    _set_at_random(route.trainable_variables)
    kernel = np.broadcast_to(kernel[:1], kernel.shape)
    there = np.arange(poses.shape[1]) != 1
    without = {
        "poses": poses[:, there],
        "kernel": kernel[there],
        "activations": activations[:, there],
    }
    expected, slopes = _differentiated(route, without)(without, "float64")
    masked = {
        "poses": np.where(there[:, None, None], poses, 1e3),
        "kernel": kernel,
        "activations": activations,
        "mask": ops.convert_to_tensor(np.broadcast_to(there, activations.shape)),
    }
    found, others = _differentiated(route, masked)(masked, "float64")
    for axis, of in ((1, "poses"), (0, "kernel"), (1, "activations")):
        if not np.take(others[of], [1], axis).any():
            others[of] = np.compress(there, others[of], axis)
    for of, gradient in others.items():
        _expect(
            gradient.shape == slopes[of].shape,
            f"The gradient of `{of}` of {name} must be zero for a masked child.",
        )
    what = f"{name} with a masked child and without it (`inputs.ones` says which)"
    _compare((found, others), (expected, slopes), what)


def _check_repetition(routing, case):
    route = _ready(routing, case)
    tensors = {name: _tensor(x, "float32") for name, x in case.items()}
    calls = (keras.tree.flatten(route(**tensors)) for _ in range(2))
    for x, y in zip(*calls, strict=True):
        of = f"The outputs of two equal calls of {_name(routing)}"
        _expect_close(_array(x), _array(y), 1e-6, of)


def _other_settings(routing):
    """Returns arguments that must change only speed and memory, not the result."""
    config = routing.get_config()
    settings = {"block": 1, "loop": "while"}, {"block": 2, "loop": "unroll"}
    settings = [{k: x for k, x in some.items() if k in config} for some in settings]
    return [some for some in settings if some]


def _compare(found, expected, names):
    """Compares outputs and gradients to the precision of float64."""
    for x, y in zip(found[0], expected[0], strict=True):
        _expect_close(_array(x), _array(y), 1e-8, f"The outputs of {names}")
    found, expected = found[1], expected[1]
    scale = max(np.abs(x).max() for x in expected.values())
    for of, gradient in found.items():
        what = f"The gradients of `{of}` of {names}"
        _expect_close(gradient, expected[of], 1e-7, what, scale)


def _check_half_precision(routing, case):
    route = _ready(routing, case)
    call = _differentiated(route, case)
    expected, _ = call(case, "float32")
    for dtype in ("bfloat16", "float16"):
        found, _ = call(case, dtype)
        of = f"The outputs of {_name(routing)} for {dtype} and for float32"
        for x, y in zip(found, expected, strict=True):
            kept = keras.backend.standardize_dtype(x.dtype)
            _expect(kept == "float32", f"{of} must be float32. Received: {kept}")
            _expect_close(_array(x), _array(y), 0.1, of)


def _check_nasty_input(routing, case):
    zeros, ones = np.zeros_like(case["activations"]), np.ones_like(case["activations"])
    poses, kernel = case["poses"], case["kernel"]
    alike = {
        "poses": np.broadcast_to(poses[:, :1], poses.shape),
        "kernel": np.broadcast_to(kernel[:1], kernel.shape),
    }
    nearly = {**alike, "poses": alike["poses"] + 1e-4 * poses}
    inputs = {
        "poses of zero": {"poses": 0.0 * poses},
        "poses of size 0.0001": {"poses": 1e-4 * poses},
        "poses of size 10,000": {"poses": 1e4 * poses},
        "children that are all alike": alike,
        "children that are nearly alike": nearly,
        "children that are all inactive": {"activations": zeros},
        "children that are hardly active": {"activations": 1e-7 * case["activations"]},
        "children that are all active": {"activations": ones},
    }
    route, name = _ready(routing, case), _name(routing)
    call = _differentiated(route, case)
    for what, change in inputs.items():
        outputs, found = call({**case, **change}, "float32")
        outputs = [_array(x) for x in outputs]
        finite = all(np.isfinite(x).all() for x in (*outputs, *found.values()))
        _expect(finite, f"Outputs and gradients of {name} must be finite with {what}.")
        size = max(1.0, np.abs(change.get("poses", 0.0)).max())
        for of, gradient in found.items():
            largest = np.abs(gradient).max()
            _expect(
                largest <= _STEEPEST * size,
                f"The gradient of `{of}` of {name} must be at most "
                f"{_STEEPEST * size:.0e} with {what}. Received: {largest:.0e}",
            )
        if routing.computes_activations:
            least, most = outputs[1].min(), outputs[1].max()
            _expect(
                least >= 0.0 and most <= 1.0,
                f"Activations of {name} must lie from 0 to 1 with {what}. Received: "
                f"from {least} to {most}",
            )
        elif routing.length_is_activation:
            longest = np.linalg.norm(outputs[0], axis=(-2, -1)).max()
            _expect(
                longest <= 1.0 + 1e-5,
                f"Lengths of poses of {name} are activations and must be at most 1 "
                f"with {what}: use keras_capsules.ops.squash, or set "
                f"`length_is_activation = False`. Received: {longest}",
            )


def _layer_inputs(layer, poses_shape):
    """Returns poses and activations for a layer, as arrays."""
    rng = np.random.default_rng(0)
    pose = layer.child_pose(layer.poses_shape(poses_shape))
    poses = rng.normal(size=poses_shape)
    activations = rng.uniform(0.1, 0.9, size=poses_shape[: -len(pose)])
    return [poses.astype("float32"), activations.astype("float32")]


def _check_layer_shapes(layer, inputs):
    name, shapes = _name(layer), [x.shape for x in inputs]
    outputs = [tuple(x.shape) for x in keras.tree.flatten(layer(tuple(inputs)))]
    expected = layer.compute_output_shape(shapes)
    expected = list(expected) if layer.routing.computes_activations else [expected]
    _expect(
        outputs == expected,
        f"{name} must return what compute_output_shape says, {expected}. Received: "
        f"{outputs}",
    )
    given = layer.arguments_of_routing(tuple(inputs))
    found = [
        tuple(given[x].shape[first:]) for x, first in (("poses", 1), ("kernel", 0))
    ]
    poses, kernel = layer.routing_shapes(layer.poses_shape(shapes[0]))
    expected = [tuple(poses[1:]), tuple(kernel)]
    _expect(
        found == expected,
        f"routing_inputs of {name} must make poses and a kernel of the shapes that "
        f"routing_shapes says, {expected}. Received: {found}",
    )


def _check_layer_gradients(layer, inputs):
    layer.build([x.shape for x in inputs])
    variables = layer.trainable_variables

    def function(*learned):
        pairs = list(zip(variables, learned, strict=True))
        with keras.StatelessScope(pairs):
            outputs = keras.tree.flatten(layer(tuple(inputs)))
        return _weighted_sum(outputs), outputs

    outputs, found = gradients(function)(*map(_array, variables))
    for output in map(_array, outputs):
        _expect(np.isfinite(output).all(), f"Outputs of {_name(layer)} must be finite.")
    for variable, gradient in zip(variables, map(_array, found), strict=True):
        _expect(
            np.isfinite(gradient).all() and gradient.any(),
            f"`{variable.path}` of {_name(layer)} is trained, but its gradient is zero "
            "or not finite.",
        )


def _check_mixed_policy(layer, inputs):
    layer, low = _copy(layer), _copy(layer, dtype="mixed_bfloat16")
    for each in (layer, low):
        each.build([x.shape for x in inputs])
    low.set_weights(layer.get_weights())
    kept = keras.backend.standardize_dtype(low.kernel.dtype)
    _expect(
        kept == "float32",
        f"The kernel of {_name(layer)} must stay in float32 under a mixed policy. "
        f"Received: {kept}",
    )
    pairs = (keras.tree.flatten(each(tuple(inputs))) for each in (low, layer))
    for found, expected in zip(*pairs, strict=True):
        of = f"The outputs of {_name(layer)} under mixed_bfloat16 and in float32"
        _expect_close(_array(found), _array(expected), 0.1, of)


def _check_saved(layer, poses_shape, name):
    """Saves, loads and exports a model with a layer, and compares the outputs."""
    arrays = _layer_inputs(layer, poses_shape)
    inputs = [keras.Input(x.shape[1:]) for x in arrays]
    model = keras.Model(inputs, layer(tuple(inputs)))
    # Initial weights would be the same even if none were saved.
    _set_at_random(layer.trainable_variables)
    expected = keras.tree.flatten(model.predict(arrays, verbose=0))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.keras"
        model.save(file)
        try:
            again = keras.saving.load_model(file)
        except (TypeError, ValueError) as error:
            raise AssertionError(
                f"A model with {name} must load after it was saved. Has its class the "
                "decorator keras.saving.register_keras_serializable, and get_config "
                f"every argument? {error}"
            ) from error
        loaded = keras.tree.flatten(again.predict(arrays, verbose=0))
        exported = run_exported(model, Path(folder) / "exported", arrays)
    for found, what in ((loaded, "loaded"), (exported, "exported")):
        for x, y in zip(found or expected, expected, strict=True):
            _expect_close(
                x, y, 1e-5, f"A model with {name}: what it and its {what} copy return"
            )
