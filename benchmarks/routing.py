"""Measures routing alone: the forward pass, and a step with all gradients.

    python -m benchmarks.routing

A step computes the gradients of all inputs. Each number is the median of the rounds,
each in a new process. `extra` is the peak memory of the process minus its memory before
the first call. The reference is a common implementation in plain TensorFlow; it is
skipped with another KERAS_BACKEND.
"""

import sys

import numpy as np

from benchmarks import measure

# Vector poses: batch, children, parents, pose sizes Q of children and R of parents.
VECTORS = {
    "digit capsules, batch 64": (64, 1152, 10, 8, 16),
    "digit capsules, batch 128": (128, 1152, 10, 8, 16),
    "227×227 images, 196 classes, batch 128": (128, 3872, 196, 8, 16),
}
# Shapes for every routing of the package. Their votes take 189 and 755 MB.
EACH = {
    "each routing, poses of 16": (256, 1152, 10, 8, 16),
    "each routing, poses of 64": (256, 1152, 10, 8, 64),
}
# Matrix poses: batch, grid size, kernel size, stride, child types, parent types.
MATRICES = {
    "small, ConvCaps1, batch 8": (8, 14, 3, 2, 8, 16),
    "small, ConvCaps2, batch 8": (8, 6, 3, 1, 16, 16),
    "small, class capsules, batch 8": (8, 4, None, None, 16, 10),
    "32 types, ConvCaps1, batch 8": (8, 14, 3, 2, 32, 32),
    "32 types, ConvCaps2, batch 8": (8, 6, 3, 1, 32, 32),
    "32 types, class capsules, batch 8": (8, 4, None, None, 32, 10),
    "32 types, ConvCaps1, batch 64": (64, 14, 3, 2, 32, 32),
}
# The reference stores a dozen tensors as large as the votes: 6 and 1.4 GB each here.
TOO_LARGE = ("227×227 images, 196 classes, batch 128", "32 types, ConvCaps1, batch 64")


def measure_routing(shape: str, routing: str) -> dict:
    """Measures times and memory of one routing on one shape."""
    from keras import ops

    make = {
        **dict.fromkeys(VECTORS, _vectors),
        **dict.fromkeys(EACH, _each),
        **dict.fromkeys(MATRICES, _matrices),
    }
    function, arrays = make[shape](shape, routing)
    inputs = [ops.convert_to_tensor(x.astype("float32")) for x in arrays]
    forward, step = measure.forward_and_step(function, inputs)
    before = measure.peak_memory()
    forward_ms = measure.median_ms(forward)
    forward_mb = measure.peak_memory() - before
    step_ms = measure.median_ms(step)
    whole = measure.peak_memory()
    return {
        "forward_ms": forward_ms,
        "forward_mb": forward_mb,
        "step_ms": step_ms,
        "step_mb": whole - before,
        "process_mb": whole,
    }


def _vectors(shape, routing):
    poses, kernel = _poses_and_kernel(*VECTORS[shape])
    if routing == "reference":
        from benchmarks.references import TiledRouting

        return TiledRouting(), (poses, kernel)
    from keras_capsules.routing import DynamicRouting

    return DynamicRouting(loop=routing), (poses, kernel)


def _each(shape, routing):
    from keras_capsules import routing as routings

    poses, kernel = _poses_and_kernel(*EACH[shape])
    route = routings.get(routing)
    route.build(poses.shape, kernel.shape)
    if not route.needs_activations:
        return route, (poses, kernel)
    return route, (poses, kernel, np.linalg.norm(poses, axis=(2, 3)))


def _poses_and_kernel(batch, children, parents, q, r):
    rng = np.random.default_rng(0)
    poses = 0.3 * rng.standard_normal((batch, children, 1, q), "float32")
    kernel = 0.1 * rng.standard_normal((children, parents, q, r), "float32")
    return poses, kernel


def _matrices(shape, routing):
    from keras_capsules.ops import ReceptiveFields
    from keras_capsules.routing import EMRouting

    batch, size, window, stride, types, parents = MATRICES[shape]
    fields, rows, children, q = None, batch, size * size * types, 5
    if window:
        fields = ReceptiveFields(
            (size, size), (window, window), (stride, stride), "valid", types
        )
        rows, children, q = batch * len(fields.positions), window * window * types, 4
    rng = np.random.default_rng(0)
    poses = rng.standard_normal((rows, children, 4, q), "float32")
    kernel = 0.5 * rng.standard_normal((children, parents, q, 4), "float32")
    activations = rng.random((rows, children), "float32")
    route = EMRouting(cost="paper")
    if routing == "reference":
        from benchmarks.references import TextbookEMRouting

        route = TextbookEMRouting(cost="paper")
    route.build(poses.shape, kernel.shape)
    return lambda *x: route(*x, receptive_fields=fields), (poses, kernel, activations)


def report(results: list) -> None:
    rows = []
    for shape in (*VECTORS, *MATRICES, *EACH):
        found = [result["routing"] for result in results if result["shape"] == shape]
        for routing in dict.fromkeys(found):
            task = {"shape": shape, "routing": routing}
            reference = {"shape": shape, "routing": "reference"}
            row = [shape, routing]
            for name in ("forward_ms", "step_ms", "forward_mb", "step_mb"):
                row.append(measure.number(measure.median(results, name, **task)))
            whole = measure.median(results, "process_mb", **task)
            row.append(measure.number(whole))
            for name in ("step_ms", "step_mb"):
                ratio = measure.ratio(results, name, task, reference)
                row.append(measure.number(ratio, ".1f", "×"))
            rows.append(row)
    header = "shape, routing, forward ms, step ms, forward MB extra, step MB extra"
    header += ", process MB, times faster, times leaner"
    measure.show(header.split(", "), rows)


def main() -> None:
    import keras

    from keras_capsules import routing

    options = measure.arguments(__doc__.splitlines()[0], "routing")
    tasks = [
        {"shape": shape, "routing": name} for shape in EACH for name in routing.names()
    ]
    for shape in (*VECTORS, *MATRICES):
        if keras.backend.backend() == "tensorflow" and shape not in TOO_LARGE:
            tasks.append({"shape": shape, "routing": "reference"})
        ours = ("while", "unroll") if shape in VECTORS else ("em",)
        tasks += [{"shape": shape, "routing": each} for each in ours]
    report(measure.run(measure_routing, tasks, options))


if __name__ == "__main__":
    sys.exit(main())
