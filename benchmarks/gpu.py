"""Routing and training on a GPU, against plain code on the same chip.

    benchmarks/gpu.sh

Steps of routing (the forward pass and the gradients of all inputs) with JAX and
PyTorch: as plain code, with votes that are kept for a block, and with fused kernels;
`model.fit`; and the golden values on the device. It takes JAX and PyTorch, without
TensorFlow and without data, and less than eight minutes a round.
"""

import os
import re
import subprocess
import sys
import time

import numpy as np

from benchmarks import measure

# Batch, children, parents, P, Q, R; and rows, columns and types of a grid.
STEPS = {
    "digit capsules, batch 512": (512, 1152, 10, 1, 8, 16),
    "227×227 images, 196 classes, batch 128": (128, 3872, 196, 1, 8, 16),
    "EM, 32 types, batch 64": (64, (14, 14, 32), 32, 4, 4, 4),
}
FITS = {
    "CapsNet": ((28, 28, 1), 256),
    "CapsNet, 36×36": ((36, 36, 1), 256),
    "MatrixCapsNet": ((32, 32, 2), 64),
}
PRECISIONS = ("float32", "mixed_bfloat16")
CODES = ("plain", "kept", "fused")
STEPS_OF_FIT = 40


def measure_step(backend: str, work: str, code: str) -> dict:
    """Time and memory of a step of routing."""
    from keras_capsules import config

    config.set_fused_kernels(code == "fused")
    function, inputs = _plain(work) if code == "plain" else _ours(work)
    if backend == "torch" and code == "plain":
        import torch

        # Compiled code is what ours competes with; processors need a compiler for it.
        if torch.cuda.is_available():
            function = torch.compile(function)
    forward, step = measure.forward_and_step(function, inputs)
    found = {
        "forward_ms": measure.median_ms(forward),
        "step_ms": measure.median_ms(step),
    }
    return {**found, "mb": measure.device_memory(), "device": measure.device()}


def _ours(work):
    """A layer as a function of its inputs and its weights."""
    import keras

    from keras_capsules import layers

    batch, children, parents, _, q, r = STEPS[work]
    if isinstance(children, tuple):
        shapes = (batch, *children, q, r), (batch, *children)
        layer = layers.ConvCapsule(parents, kernel_size=3, strides=2)
    else:
        shapes = ((batch, children, q),)
        layer = layers.DigitCapsule(parents, r)
    keras.utils.set_random_seed(0)
    layer.build(list(shapes) if len(shapes) > 1 else shapes[0])
    inputs = [0.3 * keras.random.normal(shapes[0])]
    inputs += [keras.random.uniform(shape) for shape in shapes[1:]]
    variables = layer.trainable_variables

    def function(*tensors):
        given, learned = tensors[: len(inputs)], tensors[len(inputs) :]
        with keras.StatelessScope(list(zip(variables, learned, strict=True))):
            return layer(given if len(given) > 1 else given[0])

    return function, [*inputs, *(keras.ops.convert_to_tensor(v) for v in variables)]


def _plain(work):
    """The same work in plain `keras.ops`, votes and all."""
    from benchmarks import plain

    _, inputs = _ours(work)
    if isinstance(STEPS[work][1], tuple):
        return plain.convolutional_em_routing, inputs
    return plain.dynamic_routing, inputs


def measure_fit(backend: str, network: str, precision: str, code: str) -> dict:
    """Images per second of `model.fit`."""
    import keras

    from keras_capsules import config, losses, models

    config.set_fused_kernels(code == "fused")
    keras.config.set_dtype_policy(precision)
    shape, batch = FITS[network]
    if network == "MatrixCapsNet":
        model, loss = models.MatrixCapsNet(shape, 5, "paper"), losses.SpreadLoss()
    else:
        model, loss = models.CapsNet(shape, 10), losses.MarginLoss()
    model.compile("adam", loss, jit_compile=backend == "jax")
    rng = np.random.default_rng(0)
    images = rng.random((STEPS_OF_FIT * batch, *shape), "float32")
    labels = rng.integers(0, 5, len(images))
    model.fit(images[: 4 * batch], labels[: 4 * batch], batch, verbose=0)
    start = time.perf_counter()
    model.fit(images, labels, batch, verbose=0)
    seconds = time.perf_counter() - start
    return {
        "images_per_second": len(images) / seconds,
        "mb": measure.device_memory(),
        "device": measure.device(),
    }


def measure_golden(backend: str, code: str) -> dict:
    """How many of the tests that compare with golden values pass, or with NumPy."""
    exact = {"NVIDIA_TF32_OVERRIDE": "0", "JAX_DEFAULT_MATMUL_PRECISION": "highest"}
    enabled = str(int(code == "fused"))
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", "golden or votes"]
        + [f"tests/{name}" for name in ("_backend", "routing", "layers", "losses")],
        cwd=measure.ROOT,
        env={**os.environ, **exact, "KERAS_CAPSULES_FUSED_KERNELS": enabled},
        capture_output=True,
        text=True,
    )
    counts = {
        name: int(re.search(rf"(\d+) {name}|$", result.stdout)[1] or 0)
        for name in ("passed", "failed")
    }
    if not counts["passed"]:
        raise RuntimeError(result.stdout + result.stderr)
    return {**counts, "device": measure.device()}


def measure_any(backend: str, what: str, **task) -> dict:
    """One figure; where it fails, why."""
    functions = {"golden": measure_golden, "step": measure_step, "fit": measure_fit}
    if backend == "torch":
        import torch

        # As JAX does it unasked.
        torch.set_float32_matmul_precision("high")
        if torch.cuda.is_available():
            torch.set_default_device("cuda")
    try:
        return functions[what](backend, **task)
    except Exception as error:  # the other rows still count
        return {"error": f"{type(error).__name__}: {error}"[:300]}


def tasks() -> list[dict]:
    found = []
    for backend in ("jax", "torch"):
        of = {"backend": backend, "what": "step"}
        found += [{**of, "work": w, "code": c} for w in STEPS for c in CODES]
        of = {"backend": backend, "what": "golden"}
        found += [{**of, "code": code} for code in CODES[1:]]
    for backend, codes in (("jax", CODES[1:]), ("torch", CODES[2:])):
        found += [
            {
                **{"backend": backend, "what": "fit", "network": network},
                **{"precision": precision, "code": code},
            }
            for network in FITS
            for precision in PRECISIONS
            for code in codes
        ]
    return found


def report(results: list) -> None:
    rows = []
    for result in results:
        words = [v for k, v in result.items() if k in ("work", "network", "precision")]
        row = [result["backend"], ", ".join([result["what"], *words]), result["code"]]
        for name, form in (
            ("forward_ms", ",.2f"),
            ("step_ms", ",.2f"),
            ("images_per_second", ",.0f"),
            ("mb", ",.0f"),
        ):
            row.append(measure.number(result.get(name), form))
        golden = result.get("passed")
        note = f"{golden} pass, {result['failed']} fail" if golden else None
        rows.append([*row, result.get("error", note)])
    header = "backend, task, code, forward ms, step ms, images/s, MB, note"
    measure.show(header.split(", "), rows)


def main() -> None:
    # This process measures nothing, but Keras asks for a backend that is there.
    os.environ.setdefault("KERAS_BACKEND", "jax")
    options = measure.arguments(__doc__.splitlines()[0], "gpu")
    report(measure.run(measure_any, tasks(), options))


if __name__ == "__main__":
    sys.exit(main())
