"""Measures memory leaks of calls outside of a compiled program.

    python -m benchmarks.memory --calls 2000

Each number is the memory of a new process after all calls, minus its memory after the
first tenth of them. A call computes a forward pass and the gradient of the poses.
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks import measure

ROUTINGS = ("dynamic", "em", "inverted_attention", "variational_bayes")


def growth(backend: str, routing: str, block: int | None, calls: int) -> dict:
    """Measures the growth of the process in MB."""
    import keras

    from keras_capsules import layers
    from keras_capsules import routing as routings
    from keras_capsules._backend import vjp

    route = type(routings.get(routing))(block=block)
    layer = layers.DigitCapsule(10, 8, routing=route)
    rng = np.random.default_rng(0)
    poses = keras.ops.convert_to_tensor(rng.standard_normal((8, 40, 4), "float32"))
    layer.build(poses.shape)

    def total(poses):
        return sum(map(keras.ops.sum, keras.tree.flatten(layer(poses))))

    for call in range(calls):
        _, pull = vjp(total, poses)
        pull(keras.ops.ones(()))
        if call == calls // 10:
            before = resident_memory()
    return {"mb": resident_memory() - before}


def resident_memory() -> float:
    """Returns the resident memory of the process in MB, on Linux."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 2**10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=2000, help="default: 2000")
    calls, rows = parser.parse_args().calls, []
    for backend in ("tensorflow", "jax", "torch"):
        for routing in ROUTINGS:
            for block in (None, 2):
                task = {"backend": backend, "routing": routing, "block": block}
                found = measure.fresh(growth, {**task, "calls": calls})
                rows.append([*task.values(), measure.number(found["mb"], ".1f")])
    measure.show(["backend", "routing", "block", f"MB after {calls} calls"], rows)


if __name__ == "__main__":
    main()
