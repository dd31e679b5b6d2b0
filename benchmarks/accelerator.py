"""Measures the package on a machine with a GPU, on all installed backends.

    python -m benchmarks.accelerator

The benchmark runs the tests with golden values on the device, and compares a step of
routing with its floor, as `benchmarks.floor` does. For `model.fit` with several batch
sizes and precisions it measures images per second, peak memory, and the arithmetic of a
step as a share of the measured rate of matrix products. It needs pytest and hypothesis,
but neither TensorFlow nor data. Without a GPU it measures the CPU, which takes hours:
choose tasks with --only.
"""

import importlib.util
import os
import re
import subprocess
import sys

from benchmarks import floor, measure, training

BACKENDS = ("tensorflow", "jax", "torch")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
BATCHES = (64, 256, 1024)
NAMES = ("network", "precision", "batch")  # arguments of a training
PARTS = ("bandwidth", "matrix product", "matrix product, bfloat16", *floor.PARTS)
# Multiplications and additions for an image of 28×28 pixels, by layer.
OPERATIONS = {
    "CapsNet": 2
    * (
        20 * 20 * (9 * 9 * 1) * 256
        + 6 * 6 * (9 * 9 * 256) * 256
        + 1152 * 10 * (8 * 16)
        + (160 * 512 + 512 * 1024 + 1024 * 784)
    ),
    "MatrixCapsNet": 2
    * (
        12 * 12 * (5 * 5 * 1) * 64
        + 12 * 12 * 64 * (8 * 17)
        + 5 * 5 * (3 * 3 * 8) * 16 * (4 * 4 * 4)
        + 3 * 3 * (3 * 3 * 16) * 16 * (4 * 4 * 4)
        + 3 * 3 * 16 * 10 * (4 * 5 * 4)
    ),
}
# Golden values need float32: devices must not round matrix products to less precision.
EXACT = {"NVIDIA_TF32_OVERRIDE": "0", "JAX_DEFAULT_MATMUL_PRECISION": "highest"}


def measure_golden() -> dict:
    """Counts the passed and failed tests that compare with golden values."""
    folders = (f"tests/{name}" for name in ("ops", "routing", "layers", "losses"))
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", "golden", *folders],
        cwd=measure.ROOT,
        env={**os.environ, **EXACT},
        capture_output=True,
        text=True,
    )
    passed = re.search(r"(\d+) passed", result.stdout)
    if passed is None:
        raise RuntimeError(result.stdout + result.stderr)
    failed = re.search(r"(\d+) failed", result.stdout)
    return {"passed": int(passed[1]), "failed": int(failed[1]) if failed else 0}


def measure_backend(backend: str, what: str, **task) -> dict:
    """Runs one task; `measure.fresh` has already selected the backend."""
    functions = {
        "golden": measure_golden,
        "floor": floor.measure_part,
        "training": training.measure_training,
    }
    if backend == "torch":
        import torch

        # cuDNN, TensorFlow and JAX use TF32 by default, too.
        torch.set_float32_matmul_precision("high")
    return {"device": measure.device(), **functions[what](**task)}


def report(results: list) -> None:
    for backend in BACKENDS:
        found = [result for result in results if result["backend"] == backend]
        if not found:
            continue
        print(f"\n{backend} on {found[0].get('device')}")
        for result in found:
            if "passed" in result:
                print("golden values: {passed} pass, {failed} fail".format(**result))
        if any(result["what"] == "floor" for result in found):
            floor.report(found)
        trained = [result for result in found if result["what"] == "training"]
        if trained:
            # A task has a result for each round.
            trainings = dict.fromkeys(tuple(x[name] for name in NAMES) for x in trained)
            header = "network, precision, batch, images/s, peak MB, matrix rate"
            measure.show(header.split(", "), [_row(found, x) for x in trainings])


def _row(found, values):
    task = dict(zip(NAMES, values, strict=True))
    speed = measure.median(found, "images_per_second", **task)
    memory = measure.median(found, "process_mb", **task)
    low = "" if task["precision"] == "float32" else ", bfloat16"
    rate = measure.median(found, "gflops", part=f"matrix product{low}")
    share = None
    if speed and rate:
        share = 100.0 * 3.0 * OPERATIONS[task["network"]] * speed / (1e9 * rate)
    figures = measure.number(speed), measure.number(memory)
    return [*task.values(), *figures, measure.number(share, ".1f", " %")]


def tasks(backends: list[str]) -> list[dict]:
    found = []
    for backend in backends:
        found.append({"backend": backend, "what": "golden"})
        found += [{"backend": backend, "what": "floor", "part": x} for x in PARTS]
        found += [
            {
                **{"backend": backend, "what": "training", "routing": "ours"},
                **{"network": network, "precision": precision, "batch": batch},
            }
            for network in OPERATIONS
            for precision in PRECISIONS
            for batch in BATCHES
        ]
    return found


def main() -> None:
    options = measure.arguments(__doc__.splitlines()[0], "accelerator")
    backends = [name for name in BACKENDS if importlib.util.find_spec(name)]
    # This process measures nothing, but Keras needs an installed backend.
    if os.environ.get("KERAS_BACKEND") not in backends:
        os.environ["KERAS_BACKEND"] = backends[0]
    report(measure.run(measure_backend, tasks(backends), options))


if __name__ == "__main__":
    sys.exit(main())
