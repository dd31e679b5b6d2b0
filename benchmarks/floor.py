"""Measures the parts of an EM routing step against lower bounds of their time.

    python -m benchmarks.floor

The layer is the first ConvCaps of the small configuration, with blocks of 16 images. A
stream reads or writes a tensor as large as the votes. The floor of a part is a lower
bound of its time: its streams divided by the measured memory bandwidth, or its
operations divided by the measured rate of matrix products, whichever takes longer. It
assumes that operations are not fused.
"""

import copy
import sys

import numpy as np

from benchmarks import measure

IMAGES, POSITIONS, CHILDREN, PARENTS, POSE = 16, 36, 72, 16, 16
COMPONENTS = IMAGES * POSITIONS * CHILDREN * PARENTS * POSE
# Streams, and operations for each component of the votes. Parts without votes have
# none.
PARTS = {
    "votes": (5, 16),
    "moments": (2, 4),
    "scores": (2, 4),
    "gradient": (12, 38),
    "update weights": (0, 0),
    "update parents": (0, 0),
    # The votes twice and their gradient once; 5 pairs of moments, the first without
    # means; 5 pairs of scores, one of three polynomials.
    "forward": (5 + 5 + 4, 16 + 10 + 8),
    "step": (10 + 9 + 10 + 12, 32 + 18 + 28 + 38),
}


def measure_part(part: str) -> dict:
    """Measures nanoseconds per component, or the speed of the machine."""
    from keras import ops

    if part == "bandwidth":
        x = ops.ones((2**26,))
        run, _ = measure.forward_and_step(lambda x: x + 1.0, [x])
        return {"gb_per_second": 2 * 4 * 2**26 / measure.median_ms(run) / 1e6}
    if part.startswith("matrix product"):
        size = 2048 if measure.device() == "cpu" else 8192
        dtype = "bfloat16" if "bfloat16" in part else "float32"
        x = ops.ones((size, size), dtype)
        run, _ = measure.forward_and_step(ops.matmul, [x, x])
        return {"gflops": 2 * size**3 / measure.median_ms(run) / 1e6}
    # With one block the gradient would reuse the votes of the forward pass.
    blocks = 2 if part in ("forward", "step") else 1
    forward, step = measure.forward_and_step(*_part(part, blocks))
    taken = measure.median_ms(step if part == "step" else forward)
    return {"ns": 1e6 * taken / (COMPONENTS * blocks)}


def _part(part, blocks):
    """Returns a function that computes a part, and its inputs."""
    from keras_capsules.ops import ReceptiveFields
    from keras_capsules.ops.votes import kernel_by_child
    from keras_capsules.routing import EMRouting, Moments, RoutingInputs
    from keras_capsules.routing._block_votes import BlockVotes

    fields = ReceptiveFields((14, 14), (3, 3), (2, 2), "valid", types=8)
    rows = blocks * IMAGES * POSITIONS
    poses = _normal(rows, CHILDREN, 4, 4)
    kernel = 0.5 * _normal(CHILDREN, PARENTS, 4, 4)
    activations = abs(_normal(rows, CHILDREN))
    route = EMRouting(block=IMAGES)
    route.build(poses.shape, kernel.shape)
    if part in ("forward", "step"):
        inputs = [poses, kernel, activations]
        return lambda *x: route(*x, receptive_fields=fields), inputs
    matrices, first = kernel_by_child(kernel), activations[:, None]
    if part == "votes":
        inputs = [poses, matrices, first]
        return lambda *x: BlockVotes(*x, second_moments=True).powers, inputs
    votes = BlockVotes(poses, matrices, first, second_moments=True)
    weights = abs(_normal(rows, PARENTS, CHILDREN))
    if part == "update weights":

        def update_weights(scores, a):
            inputs = RoutingInputs(poses, a, fields, PARENTS)
            return route.update_weights(scores, inputs)

        return update_weights, [weights, activations]
    moments = votes.moments(weights)
    if part == "update parents":

        def update_parents(*x):
            inputs = RoutingInputs(poses, activations, fields, PARENTS)
            found = route.update_parents(Moments(*x, votes.center), 1.0, inputs)
            polynomial = route.score_coefficients(found)
            return found["parents"], *polynomial.recentered(votes.center)

        return update_parents, [*moments]
    given = {
        "moments": [weights],
        "scores": list(moments),
        "gradient": [
            _normal(rows, PARENTS, 5, CHILDREN),
            *(_normal(rows, PARENTS, 5, POSE) for _ in range(2)),
        ],
    }[part]

    def work(v, squares, *x):
        block = copy.copy(votes)
        block.powers = [v, squares]
        if part == "gradient":
            return block.gradient(x[0], x[1:])
        return block.scores(x) if part == "scores" else block.moments(*x)

    return work, [*votes.powers, *given]


def _normal(*shape):
    from keras import ops

    x = np.random.default_rng(0).standard_normal(shape, "float32")
    return ops.convert_to_tensor(x)


def report(results: list) -> None:
    """Prints a table of the measured parts of one backend."""
    bandwidth = measure.median(results, "gb_per_second", part="bandwidth")
    rate = measure.median(results, "gflops", part="matrix product")
    measured = {part: measure.median(results, "ns", part=part) for part in PARTS}
    rows = []
    for part, (streams, operations) in PARTS.items():
        floor = times = None
        if streams and bandwidth and rate:
            floor = max(4 * streams / bandwidth, operations / rate)
            times = measured[part] and measured[part] / floor
        row = [part, streams, measure.number(floor, ".2f")]
        row.append(measure.number(measured[part], ".2f"))
        rows.append([*row, measure.number(times, ".1f", "×")])
    header = "part, streams, floor in ns a component, measured, times the floor"
    measure.show(header.split(", "), rows)
    speeds = (
        measure.number(rate, unit=" GFLOPS"),
        measure.number(bandwidth, unit=" GB/s"),
    )
    print("Measured: matrix products {}, bandwidth {}.".format(*speeds))


def main() -> None:
    options = measure.arguments(__doc__.splitlines()[0], "floor")
    tasks = [{"part": part} for part in ("bandwidth", "matrix product", *PARTS)]
    report(measure.run(measure_part, tasks, options))


if __name__ == "__main__":
    sys.exit(main())
