"""Tests layers, routings and losses with random arguments against the formulas.

    KERAS_BACKEND=torch python -m benchmarks.fuzz --cases 20000 --seed 0
    KERAS_BACKEND=torch python -m benchmarks.fuzz --seed 0 --case 137

The seed and the number of a case determine it: a layer with random arguments, shapes,
precision and values. Its outputs must equal those of the papers' formulas, which NumPy
evaluates in float64. 20,000 cases take minutes on PyTorch, where nothing is compiled.
JAX compiles every shape again, so run fewer cases there.

The tolerance of a case depends on its condition. The formulas are evaluated three more
times, with inputs that are perturbed by random rounding errors of the layer's
precision. The largest change of an output is the effect of rounding the inputs. A layer
also rounds intermediate results, so its error may be 16 times as large, plus 32
rounding errors of the largest value.

A case is ill-conditioned if this tolerance is more than a fifth of the largest value,
as with huge votes, where rounding decides which votes agree. Its outputs must only be
finite and within their bounds. A case is also ill-conditioned if variances can be
smaller than the rounding error of the squares from which they are computed.

Illegal arguments and inputs must raise a ValueError that names them.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_capsules import layers, losses, routing
from keras_capsules._backend import float64

# The tests contain the formulas.
sys.path.append(str(Path(__file__).parents[1] / "tests"))
import reference

ROUNDING = {
    "float64": 2.0**-52,
    "float32": 2.0**-23,
    "mixed_bfloat16": 2.0**-8,
    "mixed_float16": 2.0**-10,
}
LARGEST = 3e4  # larger votes are clipped in float16
ROUNDED_AGAIN, ROUNDINGS, HOPELESS = 16.0, 32.0, 0.2
# Keras rounds means and some constants to float32 on PyTorch.
ROUNDED_ON_TORCH = (
    "em",
    "inverted_attention",
    "variational_bayes",
    "self",
    "normalization",
)


class Case(NamedTuple):
    """A layer with its inputs and the expected outputs.

    Attributes:
        kind: name of the kind of case in the table.
        run: function that takes the arrays and returns the outputs of the package.
        formula: function that takes the arrays and returns the expected outputs.
        arrays: arrays by name, in float64, rounded to the precision of the policy.
        policy: precision of the layer.
        bounds: smallest and largest legal value of each output.
        least_variance: lower bound of the variances of votes; `None` if there are no
            variances.
    """

    kind: str
    run: Callable
    formula: Callable
    arrays: dict[str, np.ndarray]
    policy: str = "float32"
    bounds: tuple = ((-np.inf, np.inf),)
    least_variance: float | None = None

    @property
    def rounding(self) -> float:
        """The rounding error of the number 1."""
        return ROUNDING[self.policy]

    @property
    def cancels(self) -> bool:
        """Whether variances can be smaller than the rounding error of squares."""
        if self.least_variance is None or not self.arrays["poses"].size:
            return False
        columns = self.arrays["poses"].shape[-1]
        largest = (
            np.abs(self.arrays["poses"]).max() * np.abs(self.arrays["kernel"]).max()
        )
        return self.rounding * (columns * largest) ** 2 > 1e-3 * self.least_variance


# Values of arrays.


def floats(rng: np.random.Generator, shape: tuple, policy: str) -> np.ndarray:
    """Returns random poses of one of several kinds, including degenerate ones."""
    x = rng.normal(size=shape)
    kind = rng.integers(10)
    if kind == 0:
        x *= 0.0
    elif kind == 1:
        x *= 10.0 ** rng.integers(2, 4 if "16" in policy else 7)
    elif kind == 2:
        x *= 10.0 ** -rng.integers(2, 5 if "16" in policy else 20)
    elif kind == 3:  # all children are equal
        x[:] = rng.normal(size=shape[-1])
    elif kind == 4:  # some are zero
        x *= rng.random((*shape[:-1], 1)) < 0.5
    elif kind == 5:  # far from zero
        x += 5.0
    return x


def amounts(rng: np.random.Generator, shape: tuple) -> np.ndarray:
    """Returns random activations; values outside of 0 to 1 count as clipped."""
    x = rng.random(shape)
    kind = rng.integers(8)
    if kind == 0:
        x *= 0.0
    elif kind == 1:
        x = np.ones(shape)
    elif kind == 2:
        x *= rng.random(shape) < 0.3
    elif kind == 3:
        x *= 1e-6
    elif kind == 4:
        x = 3.0 * x - 1.0
    return x


def as_precise(x: np.ndarray, dtype: str) -> np.ndarray:
    """Rounds floats to the precision of a dtype."""
    x = ops.cast(ops.convert_to_tensor(x.astype("float32")), dtype)
    return ops.convert_to_numpy(ops.cast(x, "float32")).astype("float64")


def random_policy(rng: np.random.Generator, of: str = "") -> str:
    policy = str(rng.choice([*ROUNDING], p=[0.2, 0.5, 0.15, 0.15]))
    rounded = of in ROUNDED_ON_TORCH and keras.backend.backend() == "torch"
    return "float32" if policy == "float64" and rounded else policy


def random_batch(rng: np.random.Generator) -> int:
    return int(rng.choice([0, 1, 2, 3, 5], p=[0.05, 0.25, 0.4, 0.2, 0.1]))


# Routings.


def random_routing(
    rng: np.random.Generator, name: str, policy: str
) -> tuple[Any, dict]:
    """Returns a routing with random arguments, and these arguments with its name."""
    arguments = {
        "loop": str(rng.choice(["while", "unroll"])),
        "block": [None, 1, 2, 3][rng.integers(4)],
        "stop_gradient": bool(rng.integers(2)),
        "iterations": int(rng.integers(1, 5)),
    }
    known = routing.get(name).get_config()
    arguments = {key: value for key, value in arguments.items() if key in known}
    if name == "dynamic":
        arguments["use_bias"] = bool(rng.integers(2))
    if name == "generative":
        arguments["min_variance"] = float(rng.choice([1.0, 0.1, 5e-4]))
    if name in ("em", "variational_bayes"):
        arguments["competition"] = str(rng.choice(["image", "patch"]))
    if name == "em":
        arguments["cost"] = str(rng.choice(["normalized", "paper"]))
        arguments["agreement"] = str(rng.choice(["mean", "product"]))
        arguments["min_variance"] = float(rng.choice([1.0, 0.1, 5e-4]))
        if arguments["cost"] == "paper":
            arguments["inverse_temperature"] = [None, 0.01, 1.0][rng.integers(3)]
    if name == "inverted_attention":
        arguments["epsilon"] = float(rng.choice([1e-5, 1e-2]))
    if name == "variational_bayes":
        arguments["prior_weight"] = float(rng.choice([0.5, 1.0, 3.0]))
    # Batch normalization uses the precision of the routing, not of the layer.
    dtype = "float64" if policy == "float64" else "float32"
    routed_by = type(routing.get(name))(**arguments, dtype=dtype)
    return routed_by, {"name": name, **arguments}


def routed(
    settings: dict,
    poses: np.ndarray,
    kernel: np.ndarray,
    activations: np.ndarray,
    learned: dict[str, np.ndarray],
    child: np.ndarray,
    padded: np.ndarray,
) -> list[np.ndarray]:
    """Computes the outputs of a routing by its formulas.

    Args:
        settings: name and arguments of the routing.
        poses: poses of the children, `(rows, children, P, Q)`, with a row for each
            receptive field of each image.
        kernel: transformation matrices, `(children, parents, Q, R)`.
        activations: activations of the children, `(rows, children)`.
        learned: weights of the routing, by name.
        child: a number for each child of each image, `(rows, children)`. A child that
            lies in several receptive fields has the same number in all of them.
        padded: whether a child is padding, `(rows, children)`.

    Returns:
        A list of the poses of the parents, `(rows, parents, P · R)`, and their
        activations `(rows, parents)`, if the routing computes activations.
    """
    name, iterations = settings["name"], settings.get("iterations")
    active = np.where(padded, 0.0, np.clip(activations, 0.0, 1.0))
    child = child if settings.get("competition") == "image" else None
    if name == "dynamic":
        # A matrix pose is a vector pose that a block matrix transforms.
        blocks = np.einsum("pP,ijqr->ijpqPr", np.eye(poses.shape[2]), kernel)
        size = poses.shape[2] * poses.shape[3], poses.shape[2] * kernel.shape[3]
        blocks = blocks.reshape(*kernel.shape[:2], *size)
        poses = poses.reshape(*poses.shape[:2], size[0])
        bias = learned.get("bias", 0.0)
        return [reference.dynamic_routing(poses, blocks, iterations, bias)[0]]
    if name == "uniform":
        return [reference.uniform_routing(poses, kernel)]
    if name == "self":
        means, shares, _ = reference.self_routing(
            poses, kernel, active, learned["weight"], learned["bias"]
        )
        return [normalized(means, learned, "pose_norm"), shares]
    if name == "generative":
        means, active, _ = reference.generative_routing(
            poses,
            kernel,
            active,
            learned["vote_bias"],
            learned["beta_use"],
            learned["beta_ignore"],
            iterations,
            settings["min_variance"],
        )
        return [means, active]
    if name == "self_attention":
        prior = learned["prior"].T
        return [reference.self_attention_routing(poses, kernel, prior)[0]]
    if name == "inverted_attention":
        gain, bias = learned["gain"], learned["bias"]
        found = reference.inverted_attention_routing(
            poses, kernel, gain, bias, iterations, settings["epsilon"]
        )
        return [found[0]]
    if name == "em":
        normalization, temperature = None, settings.get("inverse_temperature")
        if settings["cost"] == "normalized":
            gamma, mean, variance = (
                learned[f"cost_norm/{name}"]
                for name in ("gamma", "moving_mean", "moving_variance")
            )
            # The layer normalizes the negative costs.
            normalization = -mean, gamma / np.sqrt(variance + 1e-4)
        means, active, _ = reference.em_routing(
            poses,
            kernel,
            active,
            learned["beta_u"],
            learned["beta_a"],
            iterations,
            temperature or min(7.0, 1.0 / (1.0 - 0.95**iterations)),
            settings["min_variance"],
            settings["agreement"],
            child,
            relative_mass=temperature is None,
            padded=padded,
            normalization=normalization,
        )
        size = means.shape[2] * means.shape[3]
        return [means.reshape(*means.shape[:2], size), active]
    means, logits, _ = reference.variational_bayes_routing(
        poses, kernel, active, iterations, settings["prior_weight"], child
    )
    logits = normalized(logits, learned, "activation_norm")
    return [normalized(means, learned, "pose_norm"), reference.sigmoid(logits)]


def normalized(x: np.ndarray, learned: dict, name: str) -> np.ndarray:
    """Applies batch normalization with moving averages to `(rows, parents, …)`."""
    of_parents = (1, -1) + (1,) * (x.ndim - 2)
    gamma, beta, mean, variance = (
        learned[f"{name}/{of}"].reshape(of_parents)
        for of in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    return gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta


# Capsule layers.


def capsule_layer(rng: np.random.Generator) -> Case:
    kind = str(rng.choice(["DigitCapsule", "ConvCapsule", "EMRoutingCapsule"]))
    name = str(rng.choice(routing.names()))
    policy, batch = random_policy(rng, of=name), random_batch(rng)
    route, settings = random_routing(rng, name, policy)
    size = tuple(int(n) for n in rng.integers(1, 6, 2))
    vectors = kind == "DigitCapsule" or rng.random() < 0.3
    rows, columns, parent_columns = (int(n) for n in rng.integers(1, 5, 3))
    pose, parent = (rows, columns), (rows, parent_columns)
    if vectors:
        rows, pose, parent = 1, (columns,), (parent_columns,)
    arguments = {
        "capsules": int(rng.integers(1, 6)),
        "pose_shape": parent[0] if vectors else parent,
    }
    if kind != "DigitCapsule" and rng.random() < 0.3:
        arguments["pose_shape"], parent_columns = None, columns
    if kind == "ConvCapsule":
        arguments["kernel_size"] = tuple(
            int(rng.integers(1, min(n, 3) + 1)) for n in size
        )
        arguments["strides"] = tuple(int(n) for n in rng.integers(1, 4, 2))
        arguments["padding"] = str(rng.choice(["valid", "same"]))
    if kind == "EMRoutingCapsule":
        arguments["coordinate_addition"] = rows > 1 and bool(rng.integers(2))
    layer = getattr(layers, kind)(routing=route, dtype=policy, **arguments)
    shape = (batch, *size, int(rng.integers(1, 4)))
    alone = vectors and rng.random() < 0.3
    layer.build((*shape, *pose) if alone else ((*shape, *pose), shape))
    arrays = {"poses": floats(rng, (*shape, *pose), policy)}
    if not alone:
        arrays["activations"] = amounts(rng, shape)
    arrays = {k: as_precise(x, layer.compute_dtype) for k, x in arrays.items()}
    kernel = rng.normal(size=layer.kernel.shape) * float(rng.choice([0.1, 0.5, 1.0]))
    arrays["kernel"] = as_precise(kernel, layer.compute_dtype)
    for variable in route.variables:
        start = ops.convert_to_numpy(variable).astype("float64")
        value = np.abs(start + 0.3 * rng.normal(size=start.shape))
        arrays[learned_name(variable)] = as_precise(value, "float32")

    def run(poses, kernel, activations=None, **learned):
        layer.kernel.assign(kernel)
        for variable in route.variables:
            variable.assign(learned[learned_name(variable)])
        inputs = poses if alone else (poses, activations)
        return layer(inputs, training=False)

    def formula(poses, kernel, activations=None, **learned):
        if alone:
            activations = np.sqrt(np.sum(poses**2, -1) + 1e-7)
        children, weights, active, child, padded, grid = GEOMETRY[kind](
            arguments, poses.reshape(*shape, rows, columns), kernel, activations
        )
        found = routed(settings, children, weights, active, learned, child, padded)
        parents = (batch, *grid, arguments["capsules"])
        shapes = ((*parents, *pose[:-1], parent_columns), parents)
        return [x.reshape(to) for x, to in zip(found, shapes, strict=False)]

    return Case(
        f"{kind}, {settings['name']}",
        run,
        formula,
        arrays,
        policy,
        ((-np.inf, np.inf), (0.0, 1.0)),
        {"variational_bayes": 1.0}.get(settings["name"], settings.get("min_variance")),
    )


def learned_name(variable: Any) -> str:
    """Returns the name of a weight, such as `beta_u` or `pose_norm/gamma`."""
    return "/".join(variable.path.split("/")[2:])


def digit_geometry(arguments, poses, kernel, activations):
    """Returns the inputs of `routed` for `DigitCapsule`: no matrices are shared."""
    batch, *_, rows, columns = poses.shape
    children = kernel.shape[0]
    return (
        poses.reshape(batch, children, rows, columns),
        kernel,
        activations.reshape(batch, children),
        np.arange(batch * children).reshape(batch, children),
        np.zeros((batch, children), bool),
        (),
    )


def class_geometry(arguments, poses, kernel, activations):
    """Returns the inputs of `routed` for `EMRoutingCapsule`.

    Children of one type share matrices over all positions, and coordinates can be added
    to the votes.
    """
    batch, height, width, types, rows, _ = poses.shape
    kernel = np.concatenate([kernel] * (height * width))
    if arguments["coordinate_addition"]:
        places = np.zeros((batch, height, width, types, rows, 1))
        places[..., 0, 0] = (np.arange(height)[:, None, None] + 0.5) / height
        places[..., 1, 0] = (np.arange(width)[:, None] + 0.5) / width
        poses = np.concatenate([poses, places], -1)
        last = np.zeros((*kernel.shape[:2], 1, kernel.shape[3]))
        last[..., -1] = 1.0
        kernel = np.concatenate([kernel, last], 2)
    children = (batch, height * width * types)
    return (
        poses.reshape(*children, *poses.shape[4:]),
        kernel,
        activations.reshape(children),
        np.arange(batch * children[1]).reshape(children),
        np.zeros(children, bool),
        (),
    )


def conv_geometry(arguments, poses, kernel, activations):
    """Returns the inputs of `routed` for `ConvCapsule`: patches are rows."""
    window = arguments["kernel_size"], arguments["strides"], arguments["padding"]
    child = np.arange(activations.size).reshape(activations.shape)
    poses, active, child = (
        patches(x, *window, fill)
        for x, fill in ((poses, 0), (activations, 0), (child, -1))
    )
    batch, *grid = child.shape[:3]
    rows = (batch * grid[0] * grid[1], int(np.prod(child.shape[3:])))
    child = child.reshape(rows)
    padded = child < 0
    return (
        poses.reshape(*rows, *poses.shape[6:]),
        kernel.reshape(rows[1], *kernel.shape[3:]),
        active.reshape(rows),
        child,
        padded,
        grid,
    )


GEOMETRY = {
    "DigitCapsule": digit_geometry,
    "ConvCapsule": conv_geometry,
    "EMRoutingCapsule": class_geometry,
}


def patches(x, kernel_size, strides, padding, fill=0.0):
    """Extracts patches from an array.

    Args:
        x: `(batch, height, width, …)`.
        kernel_size: height and width of a patch.
        strides: steps between patches.
        padding: `"valid"` or `"same"`.
        fill: value of the padding.

    Returns:
        Patches, `(batch, rows, columns, *kernel_size, …)`.
    """
    if padding == "same":
        borders = [(0, 0)]
        for n, k, s in zip(x.shape[1:3], kernel_size, strides, strict=True):
            missing = max((-(-n // s) - 1) * s + k - n, 0)
            borders.append((missing // 2, missing - missing // 2))
        borders += [(0, 0)] * (x.ndim - 3)
        x = np.pad(x, borders, constant_values=fill)
    windows = zip(x.shape[1:3], kernel_size, strides, strict=True)
    down, across = (range(0, n - k + 1, step) for n, k, step in windows)
    kh, kw = kernel_size
    rows = [np.stack([x[:, i : i + kh, j : j + kw] for j in across], 1) for i in down]
    return np.stack(rows, 1)


# Other layers.


def primary_capsules(rng: np.random.Generator) -> Case:
    policy, batch = random_policy(rng), random_batch(rng)
    size = [int(n) for n in rng.integers(1, 8, 2)]
    window = (
        tuple(int(rng.integers(1, min(n, 4) + 1)) for n in size),
        tuple(int(n) for n in rng.integers(1, 4, 2)),
        str(rng.choice(["valid", "same"])),
    )
    if window[2] == "same":  # TensorFlow supports no unequal strides
        window = (window[0], (window[1][0],) * 2, window[2])
    pose = int(rng.integers(1, 9)) if rng.integers(2) else (3, int(rng.integers(1, 4)))
    layer = layers.PrimaryCapsule(int(rng.integers(1, 5)), pose, *window, dtype=policy)
    shape = (batch, *size, int(rng.integers(1, 4)))
    layer.build(shape)
    arrays = {
        "images": floats(rng, shape, policy),
        "kernel": 0.3 * rng.normal(size=layer.conv.kernel.shape),
        "bias": rng.normal(size=layer.conv.bias.shape),
    }
    arrays = {k: as_precise(x, layer.compute_dtype) for k, x in arrays.items()}

    def run(images, kernel, bias):
        layer.conv.kernel.assign(kernel)
        layer.conv.bias.assign(bias)
        return layer(images)

    def formula(images, kernel, bias):
        seen = patches(images, *window)
        features = np.einsum("nxyhwc,hwco->nxyo", seen, kernel) + bias
        size = features.shape[3] // layer.capsules
        features = features.reshape(*features.shape[:3], layer.capsules, size)
        if isinstance(pose, int):
            return [reference.squash(features)]
        poses = features[..., :-1].reshape(*features.shape[:4], *pose)
        return [poses, reference.sigmoid(features[..., -1])]

    bound = (-1.0, 1.0) if isinstance(pose, int) else (-np.inf, np.inf)
    return Case("PrimaryCapsule", run, formula, arrays, policy, (bound, (0.0, 1.0)))


def pose_normalization(rng: np.random.Generator) -> Case:
    policy = random_policy(rng, of="normalization")
    shape = (random_batch(rng), *rng.integers(1, 5, rng.integers(1, 6)).tolist())
    epsilon = float(rng.choice([1e-4, 1e-2, 1.0]))
    layer = layers.PoseNormalization(epsilon, dtype=policy)
    arrays = {"poses": as_precise(floats(rng, shape, policy), layer.compute_dtype)}

    def formula(poses):
        square = np.mean(poses**2, axis=tuple(range(1, poses.ndim)), keepdims=True)
        return [poses * np.sqrt(square + epsilon**2) / (square + epsilon)]

    return Case(
        "PoseNormalization",
        lambda poses: layer(poses),
        formula,
        arrays,
        policy,
    )


def capsule_length(rng: np.random.Generator) -> Case:
    policy = str(rng.choice(["float32", "float64"]))
    shape = (random_batch(rng), *rng.integers(1, 5, rng.integers(2, 5)).tolist())
    poses = reference.squash(floats(rng, shape, policy))
    return Case(
        "CapsuleLength",
        lambda poses: layers.CapsuleLength(dtype=policy)(poses),
        lambda poses: [np.sqrt(np.sum(poses**2, -1) + 1e-7)],
        {"poses": as_precise(poses, "float32")},
        policy,
        ((0.0, 1.0 + 1e-6),),
    )


def capsule_mask(rng: np.random.Generator) -> Case:
    policy, batch = random_policy(rng), random_batch(rng)
    classes = int(rng.integers(2, 6))
    layer = layers.CapsuleMask(dtype=policy)
    poses = rng.normal(size=(batch, classes, int(rng.integers(1, 5))))
    labels, indicators = random_labels(rng, batch, classes, several=True)
    if rng.random() < 0.3:
        longest = np.argmax(np.sum(as_precise(poses, layer.compute_dtype) ** 2, -1), -1)
        labels, indicators = None, np.eye(classes)[longest]
    return Case(
        "CapsuleMask",
        lambda poses: layer(poses, labels),
        lambda poses: [poses * indicators[..., None]],
        {"poses": as_precise(poses, layer.compute_dtype)},
        policy,
    )


def random_labels(rng, batch, classes, several):
    """Returns labels of one of several kinds, and their indicators."""
    numbers = rng.integers(classes, size=batch)
    indicators = np.eye(classes)[numbers]
    kind = rng.integers(5 if several else 4)
    if kind == 0:
        return numbers, indicators
    if kind == 1:
        return numbers[:, None], indicators
    if kind == 2:
        return numbers.astype("float32"), indicators
    if kind == 3:
        return indicators.astype(rng.choice(["float32", "int32"])), indicators
    indicators = (rng.random((batch, classes)) < 0.4).astype("float64")
    return indicators.astype("float32"), indicators


def margin_loss(rng: np.random.Generator) -> Case:
    batch, classes = random_batch(rng), int(rng.integers(2, 7))
    labels, t = random_labels(rng, batch, classes, several=True)
    m = [float(x) for x in rng.uniform(0.0, 1.0, 3)]

    def formula(y):
        absent = m[2] * (1.0 - t) * np.maximum(0.0, y - m[1]) ** 2
        return [np.sum(t * np.maximum(0.0, m[0] - y) ** 2 + absent, -1)]

    loss = losses.MarginLoss(*m, reduction=None)
    scores = as_precise(amounts(rng, (batch, classes)), "float32")
    return Case("MarginLoss", lambda y: loss(labels, y), formula, {"y": scores})


def spread_loss(rng: np.random.Generator) -> Case:
    batch, classes = random_batch(rng), int(rng.integers(2, 7))
    labels, t = random_labels(rng, batch, classes, several=False)
    margin = float(rng.uniform(0.01, 1.0))

    def formula(y):
        lead = np.sum(t * y, -1, keepdims=True) - y
        return [np.sum((1.0 - t) * np.maximum(0.0, margin - lead) ** 2, -1)]

    loss = losses.SpreadLoss(margin, reduction=None)
    scores = as_precise(amounts(rng, (batch, classes)), "float32")
    return Case("SpreadLoss", lambda y: loss(labels, y), formula, {"y": scores})


# Illegal arguments and inputs.

NOT_A_COUNT = (0, -1, 1.5, True, "3", float("nan"), None, (2,))
NOT_POSITIVE = (0, 0.0, -1.0, float("nan"), float("inf"), "1", True, (1.0,))
NOT_A_WINDOW = (0, -2, 1.5, (1,), (1, 2, 3), (1, 0), (1, 2.0), "3", None)
NOT_A_FLAG = (1, 0, "yes", None)
UNKNOWN = ("", "no", 3, None)
ILLEGAL = {
    (layers.DigitCapsule, "capsules"): NOT_A_COUNT,
    (layers.DigitCapsule, "pose_shape"): (0, -1, 1.5, "3", (1, 0), (2, 2, 2)),
    (layers.ConvCapsule, "capsules"): NOT_A_COUNT,
    (layers.ConvCapsule, "pose_shape"): (0, True, 1.5, "3", (1, 0), (2, 2, 2)),
    (layers.ConvCapsule, "kernel_size"): NOT_A_WINDOW,
    (layers.ConvCapsule, "strides"): NOT_A_WINDOW,
    (layers.ConvCapsule, "padding"): (*UNKNOWN, "full", "causal"),
    (layers.ConvCapsule, "routing"): (*UNKNOWN, {}, {"class_name": "system"}, []),
    (layers.EMRoutingCapsule, "coordinate_addition"): NOT_A_FLAG,
    (layers.PrimaryCapsule, "capsules"): NOT_A_COUNT,
    (layers.PrimaryCapsule, "pose_shape"): (0, 1.5, None, "3", (1, 0), (2, 2, 2)),
    (layers.PrimaryCapsule, "kernel_size"): NOT_A_WINDOW,
    (layers.PrimaryCapsule, "strides"): NOT_A_WINDOW,
    (layers.PrimaryCapsule, "padding"): (*UNKNOWN, "full", "causal"),
    (layers.PoseNormalization, "epsilon"): NOT_POSITIVE,
    (routing.DynamicRouting, "iterations"): NOT_A_COUNT,
    (routing.DynamicRouting, "loop"): (*UNKNOWN, "for"),
    (routing.DynamicRouting, "stop_gradient"): NOT_A_FLAG,
    (routing.DynamicRouting, "block"): (0, -1, 1.5, True, "3"),
    (routing.EMRouting, "inverse_temperature"): NOT_POSITIVE,
    (routing.EMRouting, "min_variance"): NOT_POSITIVE,
    (routing.EMRouting, "competition"): (*UNKNOWN, "images"),
    (routing.EMRouting, "cost"): (*UNKNOWN, "papers"),
    (routing.EMRouting, "agreement"): (*UNKNOWN, "sum"),
    (routing.InvertedAttentionRouting, "epsilon"): NOT_POSITIVE,
    (routing.VariationalBayesRouting, "prior_weight"): NOT_POSITIVE,
    (routing.VariationalBayesRouting, "momentum"): (1.0, -0.1, float("nan"), "1", True),
    (losses.SpreadLoss, "margin"): NOT_POSITIVE,
    (losses.MarginLoss, "present_margin"): ("a", float("nan"), float("inf"), None),
    (losses.MarginLoss, "absent_margin"): ("a", float("nan"), float("inf"), None),
    (losses.MarginLoss, "absent_weight"): ("a", float("nan"), -1.0, None),
}
LEGAL = {
    layers.DigitCapsule: {"capsules": 3},
    layers.ConvCapsule: {"capsules": 3},
    layers.EMRoutingCapsule: {"capsules": 3},
    layers.PrimaryCapsule: {"capsules": 3, "pose_shape": 4},
}


def illegal_argument(rng: np.random.Generator) -> tuple[str, Callable, str]:
    """Returns a description, a function that must fail, and a word of its error."""
    what, name = list(ILLEGAL)[rng.integers(len(ILLEGAL))]
    value = ILLEGAL[what, name][rng.integers(len(ILLEGAL[what, name]))]
    arguments = {**LEGAL.get(what, {}), name: value}
    return f"{what.__name__}({name}={value!r})", lambda: what(**arguments), name


def illegal_input(rng: np.random.Generator) -> tuple[str, Callable, str]:
    """Returns the same as `illegal_argument`, for a call of a layer or loss."""
    poses, active = np.ones((2, 3, 4, 2, 2, 2)), np.ones((2, 3, 4, 2))
    labels = rng.choice([-1, 3, 100], size=2)
    matrix = np.ones((2, 3), "float32")
    conv = layers.ConvCapsule(3, kernel_size=2)
    tried = {
        "no activations": (lambda: conv(poses), "`inputs`"),
        "activations of another shape": (lambda: conv((poses, active[:1])), "`inputs`"),
        "three inputs": (lambda: conv((poses, active, active)), "`inputs`"),
        "poses without types": (lambda: conv((poses[:, 0, 0], active)), "types"),
        "a patch beyond the image": (
            lambda: layers.ConvCapsule(3, kernel_size=4)((poses, active)),
            "kernel_size",
        ),
        "coordinates of vectors": (
            lambda: layers.EMRoutingCapsule(3)((poses[..., 0], active)),
            "coordinate_addition",
        ),
        "other rows": (
            lambda: layers.ConvCapsule(3, pose_shape=(3, 2))((poses, active)),
            "pose_shape",
        ),
        "capsules of two axes": (lambda: layers.DigitCapsule(3)(matrix), "inputs"),
        "lengths of two axes": (lambda: layers.CapsuleLength()(matrix), "inputs"),
        "an image of three axes": (
            lambda: layers.PrimaryCapsule(3, 4)(np.ones((2, 5, 5), "float32")),
            "inputs",
        ),
        "a mask of labels outside": (
            lambda: layers.CapsuleMask()(np.ones((2, 3, 4)), labels),
            "labels",
        ),
        "a mask of more labels": (
            lambda: layers.CapsuleMask()(np.ones((2, 3, 4)), np.zeros(3, "int32")),
            "labels",
        ),
        "a loss of labels outside": (
            lambda: losses.MarginLoss()(labels, matrix),
            "y_true",
        ),
        "a loss of more labels": (
            lambda: losses.SpreadLoss()(np.zeros(3, "int32"), matrix),
            "y_true",
        ),
        "a spread loss of several": (
            lambda: losses.SpreadLoss()(matrix, matrix),
            "y_true",
        ),
        "a loss of vectors": (
            lambda: losses.MarginLoss()(np.zeros(2, "int32"), np.ones((2, 3, 4))),
            "y_pred",
        ),
    }
    what = list(tried)[rng.integers(len(tried))]
    return what, *tried[what]


# Running cases.

LEGAL_CASES = {
    capsule_layer: 0.6,
    primary_capsules: 0.08,
    pose_normalization: 0.04,
    capsule_length: 0.04,
    capsule_mask: 0.04,
    margin_loss: 0.04,
    spread_loss: 0.04,
}
ILLEGAL_CASES = {illegal_argument: 0.08, illegal_input: 0.04}


def run_case(seed: int, number: int) -> tuple[str, str | None]:
    """Runs one case.

    Args:
        seed: seed of all cases.
        number: number of the case.

    Returns:
        The kind of the case, and a description of the failure or `None`.
    """
    rng = np.random.default_rng([seed, number])
    kinds = {**LEGAL_CASES, **ILLEGAL_CASES}
    make = list(kinds)[rng.choice(len(kinds), p=list(kinds.values()))]
    if make in ILLEGAL_CASES:
        return make.__name__.replace("_", " "), refused(*make(rng))
    kind = make.__name__
    try:
        with float64():
            case = make(rng)
            kind = case.kind
            verdict, problem = compared(case, rng)
    except Exception as error:
        return kind, f"{type(error).__name__}: {error}"
    return f"{kind}{verdict}", problem


def refused(what: str, function: Callable, word: str) -> str | None:
    """Checks that a function raises a ValueError that contains a word.

    Args:
        what: description of the illegal argument or input.
        function: function that must fail.
        word: word that the error message must contain.

    Returns:
        A description of the failure, or `None`.
    """
    try:
        function()
    except ValueError as error:
        return None if word in str(error) else f"{what} names no {word}: {error}"
    except Exception as error:
        return f"{what} raises {type(error).__name__}: {error}"
    return f"{what} is taken"


def compared(case: Case, rng: np.random.Generator) -> tuple[str, str | None]:
    """Compares the outputs of a case with its formula.

    Args:
        case: the case.
        rng: random generator of the perturbations.

    Returns:
        A suffix for the kind of the case, and a description of the failure or `None`.
    """
    dtype = {"mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}
    dtype = dtype.get(case.policy, case.policy)
    tensors = {name: ops.cast(x, dtype) for name, x in case.arrays.items()}
    outputs = keras.tree.flatten(case.run(**tensors))
    outputs = [ops.convert_to_numpy(ops.cast(x, "float64")) for x in outputs]
    with np.errstate(all="ignore"):
        expected = case.formula(**case.arrays)
        moved = [case.formula(**rounded(case, rng)) for _ in range(3)]
    if [x.shape for x in outputs] != [x.shape for x in expected]:
        shapes = [x.shape for x in outputs], [x.shape for x in expected]
        return "", "shapes are {}, expected {}".format(*shapes)
    verdict = ""
    for index, (found, wanted) in enumerate(zip(outputs, expected, strict=True)):
        if not found.size:
            continue
        low, high = case.bounds[index]
        if not np.isfinite(found).all():
            return "", f"output {index} is not finite"
        if found.min() < low or found.max() > high:
            return "", f"output {index} is from {found.min()} to {found.max()}"
        scale = high if np.isfinite(high) else np.abs(wanted).max()
        error = np.abs(found - wanted).max()
        reach = max(np.abs(other[index] - wanted).max() for other in moved)
        allowed = (
            ROUNDED_AGAIN * reach + ROUNDINGS * case.rounding * scale + TINY[dtype]
        )
        cut_off = dtype == "float16" and not scale < LARGEST
        if (
            cut_off
            or case.cancels
            or not allowed < HOPELESS * scale + TINY[dtype] + 1e-6
        ):
            verdict = ", ill-conditioned"
        elif error > allowed:
            return "", f"output {index} errs by {error:.1e}, allowed are {allowed:.1e}"
    return verdict, None


def rounded(case: Case, rng: np.random.Generator) -> dict:
    """Returns the arrays of a case with random rounding errors."""
    return {
        name: x * (1.0 + case.rounding * rng.uniform(-1.0, 1.0, x.shape))
        for name, x in case.arrays.items()
    }


TINY = {"float64": 1e-30, "float32": 1e-30, "bfloat16": 1e-30, "float16": 1e-4}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="run only the case with this number")
    settings = parser.parse_args()
    numbers = range(settings.cases) if settings.case is None else [settings.case]
    sys.exit(fuzz(settings.seed, numbers))


def fuzz(seed: int, numbers: Any) -> int:
    """Runs cases, and prints the failures and a table.

    Args:
        seed: seed of all cases.
        numbers: numbers of the cases.

    Returns:
        The exit code: 1 if a case failed, else 0.
    """
    kinds, failures = Counter(), Counter()
    start = time.perf_counter()
    try:
        for count, number in enumerate(numbers, 1):
            kind, problem = run_case(seed, number)
            kinds[kind] += 1
            if problem:
                failures[kind] += 1
                problem = " ".join(problem.split())[:300]
                command = f"python -m benchmarks.fuzz --seed {seed} --case {number}"
                print(f"{command}  # {kind}: {problem}", flush=True)
            if count % 1000 == 0:
                seconds = time.perf_counter() - start
                failed = failures.total()
                print(f"{count} cases, {failed} failures, {seconds:.0f} s", flush=True)
    except KeyboardInterrupt:
        print("interrupted")
    print("\n| kind | cases | failures |\n| --- | ---: | ---: |")
    for kind in sorted(kinds):
        print(f"| {kind} | {kinds[kind]} | {failures[kind]} |")
    print(
        f"| all, on {keras.backend.backend()} | {kinds.total()} | {failures.total()} |"
    )
    return int(bool(failures))


if __name__ == "__main__":
    main()
