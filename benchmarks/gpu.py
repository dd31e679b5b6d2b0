"""Measures routing and training on a GPU against plain code on the same GPU.

    benchmarks/gpu.sh

The benchmark measures steps of routing (the forward pass and the gradients of all
inputs), convolutions in two forms, and `model.fit`, and runs the tests with golden
values on the GPU. It needs JAX and PyTorch, but neither TensorFlow nor data. The most
important tasks run first. No task begins after --seconds; the same command with
--resume runs the others.

Routing is measured in these forms:

- plain: a common implementation that stores all votes, compiled by JAX or PyTorch;
- kept: our implementation, which stores the votes of a block;
- fused: our implementation with fused kernels; PyTorch compiles the other operations;
- kernels: with PyTorch, fused kernels without compilation;
- compiled: with PyTorch, compiled code that stores the votes of a block.
"""

import importlib.util
import os
import re
import subprocess
import sys
import time

import numpy as np

from benchmarks import measure

# Batch, children, parents, P, Q, R. Children in a grid are rows, columns and types.
STEPS = {
    "digit capsules, batch 512": (512, 1152, 10, 1, 8, 16),
    "EM, 32 types, batch 64": (64, (14, 14, 32), 32, 4, 4, 4),
    "227×227 images, 196 classes, batch 128": (128, 3872, 196, 1, 8, 16),
}
CODES = {
    "jax": ("plain", "kept", "fused"),
    "torch": ("plain", "kept", "fused", "kernels", "compiled"),
}
FITS = {
    "CapsNet": ((28, 28, 1), 256),
    "CapsNet, pairs": ((36, 36, 1), 256),
    "MatrixCapsNet": ((32, 32, 2), 64),
}
STEPS_OF_FIT = 100
# Input shapes of the convolution in primary capsules. It has as many filters as
# channels.
CONVOLUTIONS = ((256, 20, 20, 256), (256, 28, 28, 256))
PRECISIONS = ("float32", "bfloat16")


def tasks() -> list[dict]:
    """Returns the tasks, the most important first."""
    found = []
    for backend, codes in CODES.items():
        of = {"backend": backend, "what": "step"}
        found += [{**of, "work": w, "code": c} for w in STEPS for c in codes[:3]]
    half, names = "mixed_bfloat16", ("backend", "network", "precision", "code", "how")
    fits = [
        ("jax", "CapsNet", half, "fused", "images on the device"),
        ("jax", "CapsNet, pairs", half, "fused", "images on the device"),
        ("jax", "MatrixCapsNet", "float32", "fused", "images on the device"),
        ("jax", "CapsNet", half, "kept", "images on the device"),
        ("jax", "MatrixCapsNet", "float32", "kept", "images on the device"),
        ("torch", "CapsNet", half, "fused", "images on the device"),
        ("torch", "MatrixCapsNet", "float32", "fused", "images on the device"),
        ("jax", "CapsNet", "float32", "fused", "images on the device"),
        ("jax", "CapsNet", half, "fused", "arrays"),
        ("torch", "CapsNet", half, "fused", "images on the device, compiled"),
    ]
    fits = [{"what": "fit", **dict(zip(names, row, strict=True))} for row in fits]
    for backend in CODES:
        found += [{"backend": backend, "what": "golden", "code": "fused"}]
        found += [{"backend": backend, "what": "convolution"}]
    rest = [
        {"backend": "torch", "what": "step", "work": w, "code": c}
        for w in STEPS
        for c in CODES["torch"][3:]
    ]
    return [*found, *fits, *rest]


def measure_any(backend: str, what: str, **task) -> dict:
    """Runs one task, and returns its results or the error."""
    functions = {
        "step": measure_step,
        "convolution": measure_convolutions,
        "fit": measure_fit,
        "golden": measure_golden,
    }
    if backend == "torch":
        import torch

        # JAX uses TF32 by default, too.
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
    try:
        found = functions[what](backend, **task)
    except Exception as error:  # the other rows still count
        return {"error": f"{type(error).__name__}: {error}"[:300]}
    return {**found, "mb": measure.device_memory(), "device": measure.device()}


def measure_step(backend: str, work: str, code: str) -> dict:
    """Measures the time of a routing step."""
    use(code)
    function, inputs = routing(work, code)
    if backend == "torch" and code == "plain":
        import torch

        # Ours is compared with compiled code. On a CPU this would need a C++ compiler.
        if torch.cuda.is_available():
            function = torch.compile(function)
    forward, step = measure.forward_and_step(function, inputs)
    return {
        "forward_ms": measure.median_ms(forward),
        "step_ms": measure.median_ms(step),
    }


def use(code: str) -> None:
    """Selects the form of routing."""
    from keras_capsules import config
    from keras_capsules._backend import fused
    from keras_capsules.routing import _engine

    config.set_fused_kernels(code not in ("plain", "kept"))
    if code == "kernels":
        fused.compiles = lambda: False
    if code == "compiled":
        _engine.fused_sums = lambda dtype: None


def routing(work: str, code: str) -> tuple:
    """Returns a routing as a function of tensors, and these tensors."""
    import keras

    from benchmarks import plain
    from keras_capsules import layers
    from keras_capsules.routing import EMRouting

    batch, children, parents, _, q, r = STEPS[work]
    convolutional = isinstance(children, tuple)
    if convolutional:
        shapes = (batch, *children, q, r), (batch, *children)
        em = EMRouting(cost="paper")
        layer = layers.ConvCapsule(parents, kernel_size=3, strides=2, routing=em)
    else:
        shapes = ((batch, children, q),)
        layer = layers.DigitCapsule(parents, r)
    keras.utils.set_random_seed(0)
    layer.build(list(shapes) if convolutional else shapes[0])
    inputs = [0.3 * keras.random.normal(shapes[0])]
    inputs += [keras.random.uniform(shape) for shape in shapes[1:]]
    variables = layer.trainable_variables

    def ours(*tensors):
        given, learned = tensors[: len(shapes)], tensors[len(shapes) :]
        with keras.StatelessScope(list(zip(variables, learned, strict=True))):
            return layer(given if convolutional else given[0])

    inputs = [*inputs, *(keras.ops.convert_to_tensor(v) for v in variables)]
    if code != "plain":
        return ours, inputs
    usual = plain.convolutional_em_routing if convolutional else plain.dynamic_routing
    return usual, inputs


def measure_convolutions(backend: str) -> dict:
    """Measures the convolution of primary capsules and its gradients in two forms."""
    import keras

    from keras_capsules._backend import convolutions

    def usual(images, kernel, strides):
        return keras.ops.conv(images, kernel, strides, data_format="channels_last")

    found = {}
    for shape in CONVOLUTIONS:
        for precision in PRECISIONS:
            images = keras.random.normal(shape, dtype=precision)
            kernel = keras.random.normal((9, 9, *2 * shape[3:]), dtype=precision)
            for name, form in (
                ("strides", usual),
                ("blocks", convolutions.convolution_over_blocks),
            ):
                _, step = measure.forward_and_step(
                    lambda images, kernel, form=form: form(images, kernel, (2, 2)),
                    [images, kernel],
                )
                found[f"{shape[1]}×{shape[2]} {precision} {name}"] = measure.median_ms(
                    step
                )
    return {"convolution_ms": found}


def measure_fit(
    backend: str, network: str, precision: str, code: str, how: str
) -> dict:
    """Measures images per second of `model.fit`."""
    use(code)
    model, loss = network_and_loss(network, precision)
    compiled = backend == "jax" or "compiled" in how
    model.compile("adam", loss, jit_compile=compiled)
    shape, batch = FITS[network]
    pairs = network == "CapsNet, pairs"
    canvas, shape = shape, (28, 28, 1) if pairs else shape
    rng = np.random.default_rng(0)
    x = rng.random((STEPS_OF_FIT * batch, *shape), "float32")
    y = rng.integers(0, 5, len(x))
    if "device" in how:
        device = device_datasets()
        form = device.OverlaidImages if pairs else device.ShiftedImages
        dataset = form((x, y), batch)
        assert dataset[0][0].shape[1:] == canvas
        arguments = (dataset,)
    else:
        arguments = x, y, batch
    model.fit(*arguments, verbose=0)  # compiles the augmentation and the training step
    start = time.perf_counter()
    model.fit(*arguments, verbose=0)
    return {"images_per_second": len(x) / (time.perf_counter() - start)}


def network_and_loss(name: str, precision: str) -> tuple:
    import keras

    from keras_capsules import losses, models

    keras.config.set_dtype_policy(precision)
    shape, _ = FITS[name]
    if name == "MatrixCapsNet":
        return models.MatrixCapsNet(shape, 5, variant="paper"), losses.SpreadLoss()
    pairs = name == "CapsNet, pairs"
    # The random labels have five classes, also for pairs.
    return models.CapsNet(shape, 5, objects=1 + pairs), losses.MarginLoss()


def device_datasets():
    """Loads `keras_capsules.datasets.device`; the other modules need TensorFlow."""
    path = measure.ROOT / "keras_capsules" / "datasets" / "device.py"
    spec = importlib.util.spec_from_file_location("device", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measure_golden(backend: str, code: str) -> dict:
    """Counts the passed tests that compare with golden values or with NumPy."""
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
    return counts


def report(results: list) -> None:
    rows = []
    for result in results:
        names = ("work", "network", "precision", "how")
        words = [v for k, v in result.items() if k in names]
        head = [result["backend"], ", ".join([result["what"], *words])]
        head.append(result.get("code"))
        for name, ms in result.get("convolution_ms", {}).items():
            rows.append([*head[:2], name, *["–"] * 2, f"{ms:,.2f}", *["–"] * 2, None])
        if "convolution_ms" in result:
            continue
        row = [*head, *_columns(result, results)]
        golden = result.get("passed")
        note = f"{golden} pass, {result['failed']} fail" if golden else None
        rows.append([*row, result.get("error", note)])
    header = (
        "backend, task, code, images/s, forward ms, step ms, against plain, MB, note"
    )
    measure.show(header.split(", "), rows)


def _columns(result, results):
    plain = {k: result.get(k) for k in ("backend", "what", "work")} | {"code": "plain"}
    plain = measure.median(results, "step_ms", **plain)
    step = result.get("step_ms")
    return (
        measure.number(result.get("images_per_second")),
        measure.number(result.get("forward_ms"), ",.2f"),
        measure.number(step, ",.2f"),
        measure.number(plain / step if plain and step else None, ".2f", "×"),
        measure.number(result.get("mb")),
    )


def main() -> None:
    # This process measures nothing, but Keras needs an installed backend.
    os.environ.setdefault("KERAS_BACKEND", "jax")
    options = measure.arguments(__doc__.splitlines()[0], "gpu")
    report(measure.run(measure_any, tasks(), options, limit=90.0))


if __name__ == "__main__":
    sys.exit(main())
