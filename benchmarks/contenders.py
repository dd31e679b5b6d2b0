"""Measures `model.fit` with each routing in the network of the leaderboard.

    python -m benchmarks.contenders

Images are random and have the shape of MNIST images. Each number is the median of the
rounds, each in a new process. `time` is the time of a step, divided by that of the CNN.
"""

import sys

from benchmarks import measure
from benchmarks.training import measure_fit
from experiments.networks import CONTENDERS, contender


def measure_contender(routing: str) -> dict:
    """Measures images per second and memory of one contender."""
    import keras

    keras.utils.set_random_seed(0)
    return measure_fit(contender((28, 28, 1), 10, routing, steps=1_000, epochs=10))


def report(results: list) -> None:
    rows = []
    for name in CONTENDERS:
        task, cnn = {"routing": name}, {"routing": "cnn"}
        slower = measure.ratio(results, "images_per_second", task, cnn)
        extra = measure.median(results, "extra_mb", **task)
        row = [measure.number(slower, ".1f"), measure.number(extra)]
        rows.append([name, *row])
    measure.show(["routing", "time", "MB extra"], rows)


def main() -> None:
    options = measure.arguments(__doc__.splitlines()[0], "contenders")
    tasks = [{"routing": name} for name in CONTENDERS]
    report(measure.run(measure_contender, tasks, options))


if __name__ == "__main__":
    sys.exit(main())
