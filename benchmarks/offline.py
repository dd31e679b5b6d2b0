"""Counts kernels, moved bytes and memory of GPU programs, without a GPU.

    pip install "jax[cuda13]"
    python -m benchmarks.offline

With JAX the steps and trainings of `benchmarks.gpu` are compiled for an NVIDIA H100.
The moved bytes are the inputs and outputs of all kernels. The time for them at a
measured bandwidth is an estimate: a kernel can read only a part of an input, or find it
in a cache, and the time of arithmetic is ignored. PyTorch launches every operation
separately, so the operations of a step are counted.
"""

import math
import os
import re
import sys
from collections import Counter

from benchmarks import gpu, measure

# XLA's description of the GPU that it compiles for.
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 84929347584
  shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}
runtime_version { major: 13 minor: 0 patch: 0 }
dnn_version_info { major: 9 minor: 10 }
platform_name: "CUDA"
device_description_str: "NVIDIA H100 80GB HBM3"
"""
MEMORY = 64 * 10**9  # bytes that JAX uses by default
BANDWIDTH = 2.85e12  # bytes a second, measured on an H200 by adding to a large array
SIZES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s64": 8, "u64": 8, "f64": 8}
# Instructions that move no data.
FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"}


def tasks() -> list[dict]:
    codes = gpu.CODES["jax"]
    steps = [{"what": "step", "name": w, "code": c} for w in gpu.STEPS for c in codes]
    torch = {"backend": "torch", "what": "step", "code": "kept"}
    fits = [
        {"what": "fit", "name": network, "code": code}
        for network in gpu.FITS
        for code in codes[1:]
    ]
    return [
        *({"backend": "jax", **task} for task in (*steps, *fits)),
        *({**torch, "name": work} for work in gpu.STEPS),
    ]


def measure_program(backend: str, what: str, name: str, code: str) -> dict:
    """Counts the kernels, moved gigabytes and allocated megabytes of a program."""
    from keras_capsules._backend import fused
    from keras_capsules.routing import _engine

    fused._has_a_gpu = lambda: True
    _engine.accelerator_memory = lambda: MEMORY
    gpu.use(code)
    if backend == "torch":
        return {"kernels": operations(name, code)}
    import jax

    jax.default_backend = lambda: "gpu"
    function, arguments = _step(name, code) if what == "step" else _fit(name)
    program = compiled(function, arguments)
    kernels, bytes_moved = cost(program.as_text())
    held = program.memory_analysis()
    return {
        "kernels": sum(kernels.values()),
        "of_ours": kernels["triton"],
        "gb_moved": bytes_moved / 1e9,
        "ms": 1e3 * bytes_moved / BANDWIDTH,
        "mb": held.temp_size_in_bytes / 1e6,
    }


def _step(name, code):
    """Returns the gradient function of a routing, and its arguments."""
    import jax
    import keras

    function, inputs = gpu.routing(name, code)

    def total(*inputs):
        outputs = keras.tree.flatten(function(*inputs))
        return sum(keras.ops.sum(keras.ops.square(y)) for y in outputs)

    return jax.grad(total, tuple(range(len(inputs)))), inputs


def _fit(name):
    """Returns the training step that `model.fit` compiles, and its arguments."""
    import keras
    import numpy as np

    precision = "float32" if name == "MatrixCapsNet" else "mixed_bfloat16"
    model, loss = gpu.network_and_loss(name, precision)
    model.compile(keras.optimizers.Adam(), loss)
    shape, batch = gpu.FITS[name]
    labels = np.zeros((batch, 5), "float32") if "pairs" in name else np.zeros(batch)
    data = np.zeros((batch, *shape), "float32"), labels
    model._symbolic_build(data_batch=data)
    model.optimizer.build(model.trainable_variables)
    kinds = ("trainable", "non_trainable", "optimizer", "metrics")
    state = model._get_jax_state(**{f"{kind}_variables": True for kind in kinds})
    return model.train_step, (state, data)


def compiled(function, arguments):
    """Compiles a function with JAX for the GPU that `H100` describes."""
    import jax
    from jax.experimental import topologies

    chip = topologies.get_topology_desc(
        "h100", "cuda", target_config=H100, topology="1x1x1"
    )
    sharding = jax.sharding.SingleDeviceSharding(chip.devices[0])
    arguments = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(
            x.shape, jax.dtypes.canonicalize_dtype(x.dtype), sharding=sharding
        ),
        arguments,
    )
    # JAX 0.11 and later need to know the GPU that kernels are compiled for.
    device = jax.sharding.AbstractDevice("NVIDIA H100 80GB HBM3", None, "cuda")
    mesh = jax.sharding.AbstractMesh((), (), abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        traced = jax.jit(function, out_shardings=sharding).trace(*arguments)
        return traced.lower(lowering_platforms=("cuda",)).compile()


def cost(text: str) -> tuple[Counter, int]:
    """Counts the kernels of a compiled program, and the bytes that they move.

    Args:
        text: the program as XLA prints it.

    Returns:
        The number of kernels of each kind, where kernels in loops count once for each
        iteration, and the number of bytes.
    """
    computations, name = {}, None
    for line in text.splitlines():
        if line.endswith("{") and "(" in line and " = " not in line.split("(")[0]:
            name = re.search(r"%?([\w.-]+) \(", line)[1]
            name = "entry" if line.startswith("ENTRY") else name
            computations[name] = []
        elif " = " in line and name:
            computations[name].append(line)
    return _cost("entry", computations)


def _cost(name, computations):
    kernels, moved, sizes = Counter(), 0, {}
    for line in computations[name]:
        found = re.match(
            r"\s*(?:ROOT )?%?([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\((.*)", line
        )
        if not found:
            continue
        result, shape, kind, rest = found.groups()
        sizes[result] = _bytes(shape)
        if kind in FREE:
            continue
        called = re.search(r"(?:body|to_apply|calls)=%?([\w.-]+)", line)
        if kind in ("while", "call"):
            times = re.search(r'"known_trip_count":\{"n":"(\d+)"', line)
            inner, inner_moved = _cost(called[1], computations)
            times = int(times[1]) if times else 1
            kernels.update({kind: times * n for kind, n in inner.items()})
            moved += times * inner_moved
            continue
        operands = re.findall(r"%([\w.-]+)", rest.split("), ")[0])
        moved += sizes[result] + sum(sizes.get(x, 0) for x in operands)
        kernels["triton" if "xla.gpu.triton" in line else kind] += 1
    return kernels, moved


def _bytes(shape):
    arrays = re.findall(r"(\w+)\[([\d,]*)\]", shape)
    return sum(
        SIZES.get(dtype, 4) * math.prod(map(int, filter(None, dims.split(","))))
        for dtype, dims in arrays
    )


def operations(name: str, code: str) -> int:
    """Counts the operations that PyTorch runs in a step, except views of tensors."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.count = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.count += not function.is_view
            return function(*args, **(kwargs or {}))

    _, step = measure.forward_and_step(*gpu.routing(name, code))
    with Count() as mode:
        step()
    return mode.count


def report(results: list) -> None:
    rows = [
        [
            f"{r['backend']}, {r['what']}, {r['name']}",
            r["code"],
            *(measure.number(r.get(k)) for k in ("kernels", "of_ours")),
            *(measure.number(r.get(k), ",.2f") for k in ("gb_moved", "ms")),
            measure.number(r.get("mb")),
            r.get("error"),
        ]
        for r in results
    ]
    header = "program, code, kernels, of ours, GB moved, ms for it, MB held, note"
    measure.show(header.split(", "), rows)


def main() -> None:
    os.environ.setdefault("KERAS_BACKEND", "jax")
    os.environ["JAX_PLATFORMS"] = "cpu"  # also if there is a GPU
    # Autotuning needs a GPU to measure the variants of a kernel.
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_autotune_level=0"
    options = measure.arguments(__doc__.splitlines()[0], "offline")
    report(measure.run(measure_program, tasks(), options, limit=300.0))


if __name__ == "__main__":
    sys.exit(main())
