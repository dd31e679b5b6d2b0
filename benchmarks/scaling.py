"""Measures how time and memory of a step grow with each size.

    python -m benchmarks.scaling

One size at a time grows by a factor of up to 100, or 30 for iterations, while the
others are fixed. The exponent is the slope of a line through the logarithms: 1 means
linear growth. A figure is saved in the folder of the JSON file.
"""

import sys

import numpy as np

from benchmarks import measure

STEPS = (1, 3, 10, 30, 100)
# The smallest value of each size. `pose` is the size of the parents' vector poses.
BEGIN = {
    "dynamic": {"batch": 4, "children": 32, "parents": 4, "pose": 4, "iterations": 1},
    "em": {"batch": 4, "children": 8, "parents": 4, "pose": 4, "iterations": 1},
}
# The values of the sizes while another size grows.
FIXED = {
    "dynamic": {"batch": 64, "children": 512, "parents": 10, "pose": 16},
    "em": {"batch": 64, "children": 128, "parents": 16, "pose": 16},
}


def measure_sizes(routing: str, growing: str, **sizes: int) -> dict:
    """Measures time and memory of one step with random inputs."""
    from keras import ops

    from keras_capsules.routing import DynamicRouting, EMRouting

    batch, children, parents = (sizes[x] for x in ("batch", "children", "parents"))
    rng = np.random.default_rng(0)
    arrays = [
        rng.standard_normal((batch, children, 1, 8), "float32"),
        0.3 * rng.standard_normal((children, parents, 8, sizes["pose"]), "float32"),
    ]
    if routing == "dynamic":
        route = DynamicRouting(sizes["iterations"])
    else:
        route = EMRouting(sizes["iterations"])
        route.build(arrays[0].shape, arrays[1].shape)
        arrays.append(rng.random((batch, children), "float32"))
    inputs = [ops.convert_to_tensor(x) for x in arrays]
    _, step = measure.forward_and_step(lambda *x: route(*x), inputs)
    before = measure.peak_memory()
    milliseconds = measure.median_ms(step, seconds=3.0)
    return {"step_ms": milliseconds, "step_mb": measure.peak_memory() - before}


def tasks() -> list[dict]:
    found = []
    for routing, begin in BEGIN.items():
        for growing, start in begin.items():
            for factor in STEPS:
                if growing == "iterations" and factor > 30:
                    continue
                sizes = {**FIXED[routing], "iterations": 3}
                sizes[growing] = start * factor
                found.append({"routing": routing, "growing": growing, **sizes})
    return found


def sweep(results: list, routing: str, growing: str, name: str) -> tuple[list, list]:
    """Returns the measured sizes, and the median result at each of them."""
    sizes, values = [], []
    for task in tasks():
        if (task["routing"], task["growing"]) == (routing, growing):
            value = measure.median(results, name, **task)
            if value:
                sizes.append(task[growing])
                values.append(value)
    return sizes, values


def exponent(sizes: list, values: list) -> float | None:
    """Returns the slope of a line through the logarithms."""
    if len(sizes) < 2:
        return None
    return np.polyfit(np.log(sizes), np.log(values), 1)[0]


def main() -> None:
    from matplotlib.ticker import NullFormatter

    from keras_capsules.plotting.panels import charts

    options = measure.arguments(__doc__.splitlines()[0], "scaling")
    results = measure.run(measure_sizes, tasks(), options)
    rows = []
    figure, axes = charts(2, height=7.0, rows=2)
    titles = [
        f"{routing} routing, {what}"
        for routing in BEGIN
        for what in ("ms a step", "MB extra")
    ]
    for axis, title in zip(axes, titles, strict=True):
        axis.set(title=title, xscale="log", yscale="log", xlabel="size / smallest size")
        axis.yaxis.set_minor_formatter(NullFormatter())
    for i, (routing, begin) in enumerate(BEGIN.items()):
        for growing in begin:
            sizes, _ = sweep(results, routing, growing, "step_ms")
            if not sizes:
                continue
            row = [routing, growing, f"{sizes[0]:,} to {sizes[-1]:,}"]
            for k, name in enumerate(("step_ms", "step_mb")):
                sizes, values = sweep(results, routing, growing, name)
                factors = np.divide(sizes, sizes[:1])
                axes[2 * i + k].plot(factors, values, "o-", label=growing)
                row.append(measure.number(values[-1] if values else None))
                row.append(measure.number(exponent(sizes, values), ".2f"))
            rows.append(row)
    for axis in axes:
        if axis.lines:
            axis.legend()
    header = "routing, grows, sizes, ms at the end, exponent, MB extra at the end, "
    measure.show((header + "exponent").split(", "), rows)
    figure.savefig(options.output.with_suffix(".png"))


if __name__ == "__main__":
    sys.exit(main())
