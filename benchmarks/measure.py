"""Measures time and memory of tasks, each in a new process."""

import argparse
import importlib
import json
import math
import os
import platform
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Error names of TensorFlow and JAX, and of PyTorch, for the memory of an accelerator.
OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "ResourceExhaustedError", "OutOfMemoryError")
WORKER = """
import json, sys
from benchmarks import measure
sys.exit(measure.work(*json.loads(sys.argv[1])))
"""


def arguments(description: str, name: str) -> argparse.Namespace:
    """Parses the flags that all benchmarks have in common.

    Args:
        description: description of the benchmark for `--help`.
        name: name of the default output file.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument(
        "--only", default="", help="run only tasks whose name contains this text"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=ROOT / "runs" / "benchmarks" / f"{name}.json",
        help=f"default: runs/benchmarks/{name}.json",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="keep the results in the file and run only missing tasks",
    )
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="begin no task after this time"
    )
    return parser.parse_args()


def run(
    function: Callable,
    tasks: list[dict],
    options: argparse.Namespace,
    limit: float | None = None,
) -> list:
    """Measures every task once in each round, and writes the file after each task.

    A round measures all tasks, so that compared results are measured within minutes of
    each other.

    Args:
        function: function that measures a task.
        tasks: arguments of the function for each task.
        options: flags of the benchmark, from `arguments`.
        limit: time limit of a task in seconds; by default there is none. With a limit,
            a task that fails becomes a result with an error, and the run continues.

    Returns:
        A list of results, each with the arguments of its task and its round.
    """
    from keras.utils import Progbar

    from keras_capsules import files

    tasks = [t for t in tasks if options.only in " ".join(map(str, t.values()))]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    done, where = [], machine()
    if options.resume and options.output.exists():
        content = json.loads(options.output.read_text())
        if content["machine"] != where:
            sys.exit(f"{options.output} is of another machine: choose another --output")
        done = [result for result in content["results"] if "error" not in result]
    progress = Progbar(options.rounds * len(tasks), unit_name="task")
    end, left = time.monotonic() + options.seconds, 0
    for turn in range(options.rounds):
        for i, task in enumerate(tasks):
            key = {**task, "round": turn}
            known = any(key.items() <= result.items() for result in done)
            left += not known and time.monotonic() >= end
            if not known and time.monotonic() < end:
                done.append({**key, **fresh(function, task, limit)})
                content = {"machine": where, "results": done}
                with files.replaced(options.output) as unfinished:
                    unfinished.write_text(json.dumps(content, indent=1) + "\n")
            progress.update(turn * len(tasks) + i + 1 - left)
    if left:
        print(f"\n{left} tasks are left: --resume goes on with them.")
    return done


def fresh(function: Callable, task: dict, limit: float | None = None) -> dict:
    """Calls `function(**task)` in a new process.

    Args:
        function: function of a module, whose result can be written as JSON.
        task: arguments of the function. `backend` in them selects the backend of Keras.
        limit: time limit in seconds; by default there is none.

    Returns:
        The result of the function. If the process exceeds the memory or the limit, or
        fails under a limit, a dict with an `error`.

    Raises:
        RuntimeError: the function failed, and there is no limit.
    """
    module = importlib.import_module(function.__module__)
    name = module.__spec__.name if module.__name__ == "__main__" else module.__name__
    call = json.dumps([name, function.__name__, task])
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
    if "backend" in task:
        environment["KERAS_BACKEND"] = task["backend"]
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, call],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        return {"error": f"took longer than {limit:.0f} s"}
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # with its child processes
            process.communicate()
    full = any(name in errors for name in OUT_OF_MEMORY)
    if process.returncode == -signal.SIGKILL or (process.returncode and full):
        return {"error": "out of memory"}
    if process.returncode and limit:
        return {"error": f"{process.returncode}: {errors[-300:]}"}
    if process.returncode:
        raise RuntimeError(f"{function.__name__}({task}) failed:\n{errors}")
    return json.loads(output.splitlines()[-1])


def work(module: str, function: str, task: dict) -> None:
    print(json.dumps(getattr(importlib.import_module(module), function)(**task)))


def peak_memory() -> float:
    """Returns the peak memory of the process in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # rusage would include the parent before the fork
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS: bytes


def device() -> str:
    """Returns the name of the device of Keras; "cpu" if there is no accelerator."""
    import keras

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        devices = tf.config.list_physical_devices("GPU")
        details = map(tf.config.experimental.get_device_details, devices)
        return next((d.get("device_name", "gpu") for d in details), "cpu")
    if backend == "jax":
        import jax

        return jax.local_devices()[0].device_kind
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def device_memory() -> float:
    """Returns the peak memory of the device of Keras in MB."""
    import keras

    if device() == "cpu":
        return peak_memory()
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        peak = tf.config.experimental.get_memory_info("GPU:0")["peak"]
    elif backend == "jax":
        import jax

        peak = jax.local_devices()[0].memory_stats()["peak_bytes_in_use"]
    else:
        import torch

        peak = torch.cuda.max_memory_allocated()
    return peak / 2**20


def median_ms(function: Callable, seconds: float = 6.0, times: int = 15) -> float:
    """Measures the median time of a call in milliseconds, after a warm-up call.

    Args:
        function: function to call.
        seconds: no call begins after this time.
        times: largest number of calls.
    """
    function()
    taken, begin = [], time.perf_counter()
    while len(taken) < times and time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        function()
        taken.append(1e3 * (time.perf_counter() - start))
    return statistics.median(taken)


def forward_and_step(function: Callable, inputs: list) -> tuple[Callable, Callable]:
    """Returns functions that compute the outputs and all gradients of a function.

    Both wait for the end of the computation. They are compiled with TensorFlow and JAX.

    Args:
        function: function of tensors.
        inputs: its inputs.

    Returns:
        A function of no arguments for the forward pass, and one for the step, which
        computes the gradients of the sum of squared outputs.
    """
    import keras

    def total(*inputs):
        outputs = keras.tree.flatten(function(*inputs))
        return sum(keras.ops.sum(keras.ops.square(y)) for y in outputs)

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        @tf.function(autograph=False)
        def forward(*inputs):
            return function(*inputs)

        @tf.function(autograph=False)
        def step(*inputs):
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                value = total(*inputs)
            return tape.gradient(value, inputs)

        asynchronous = device() != "cpu"

        def waited(function):
            found = function(*inputs)
            if asynchronous:
                tf.test.experimental.sync_devices()
            return found

        return lambda: waited(forward), lambda: waited(step)
    if backend == "jax":
        import jax

        forward = jax.jit(function)
        step = jax.jit(jax.grad(total, tuple(range(len(inputs)))))
        wait = jax.block_until_ready
        return lambda: wait(forward(*inputs)), lambda: wait(step(*inputs))
    import torch

    leaves = [x.detach().requires_grad_() for x in inputs]

    def waited(found):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return found

    def forward():
        with torch.no_grad():
            waited(function(*inputs))

    return forward, lambda: waited(torch.autograd.grad(total(*leaves), leaves))


def median(results: list, name: str, **task) -> float | None:
    """Returns the median of a result over the rounds; `None` if there is none."""
    found = [r.get(name) for r in results if task.items() <= r.items()]
    found = [x for x in found if x is not None]
    return statistics.median(found) if found else None


def ratio(results: list, name: str, task: dict, reference: dict) -> float | None:
    """Returns the median over the rounds of the ratio reference / task.

    Args:
        results: results of `run`.
        name: name of the result.
        task: arguments of the task.
        reference: arguments of the reference task.

    Returns:
        The ratio; `None` if no round has both results.
    """
    found = {}
    for key, of in (("task", task), ("reference", reference)):
        for result in results:
            if of.items() <= result.items() and result.get(name):
                found.setdefault(result["round"], {})[key] = result[name]
    ratios = [x["reference"] / x["task"] for x in found.values() if len(x) == 2]
    return statistics.median(ratios) if ratios else None


def machine() -> dict:
    """Describes the machine and the software that results depend on."""
    import keras

    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        models = [x.split(":")[1].strip() for x in lines if x.startswith("model name")]
        name = models[0] if models else name
    return {
        "processor": name,
        "cores": cores(),
        "gpus": gpus(),
        "python": platform.python_version(),
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
    }


def cores() -> int:
    """Returns the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # on Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def gpus() -> list[str]:
    """Returns the names of the NVIDIA GPUs of the machine.

    It asks no backend, because a backend can allocate GPU memory when it starts.
    """
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    if shutil.which(command[0]) is None:
        return []
    found = subprocess.run(command, capture_output=True, text=True)
    # If it fails, stdout contains the reason.
    return [] if found.returncode else found.stdout.splitlines()


def show(header: list[str], rows: list[list]) -> None:
    """Prints a table in Markdown."""
    print()
    for row in (header, ["---", *["---:"] * (len(header) - 1)], *rows):
        print("| " + " | ".join("" if x is None else str(x) for x in row) + " |")
    print()


def number(x: float | None, form: str = ",.0f", unit: str = "") -> str:
    return "–" if x is None else f"{x:{form}}{unit}"
