"""Measures `model.fit` with our routing and with a reference implementation.

    python -m benchmarks.training

Images are random and have the shape of MNIST images. Each number is the median of the
rounds, each in a new process. A round is the median time of twelve batches, after three
warm-up batches. Whole epochs are not measured, because tf.data can hold a finished
iterator for seconds. The reference is the same network with the routing of
`benchmarks.references`.
"""

import statistics
import sys
import time

import numpy as np

from benchmarks import measure

BATCH, WARM_UP, COUNTED = 64, 3, 12
TASKS = (
    {"network": "CapsNet", "routing": "reference", "precision": "float32"},
    {"network": "CapsNet", "routing": "ours", "precision": "float32"},
    {"network": "CapsNet", "routing": "ours", "precision": "mixed_bfloat16"},
    {"network": "MatrixCapsNet", "routing": "reference", "precision": "float32"},
    {"network": "MatrixCapsNet", "routing": "ours", "precision": "float32"},
    {"network": "MatrixCapsNet", "routing": "ours", "precision": "mixed_bfloat16"},
)


def measure_training(
    network: str, routing: str, precision: str, batch: int = BATCH
) -> dict:
    """Measures images per second and memory of one network."""
    import keras

    keras.config.set_dtype_policy(precision)
    keras.utils.set_random_seed(0)
    return measure_fit(_network(network, routing == "reference"), batch)


def measure_fit(model, batch: int = BATCH) -> dict:
    """Measures images per second and memory of `fit`.

    Args:
        model: a compiled model for images of 28×28 pixels and 10 classes.
        batch: batch size.
    """
    import keras

    times = []

    def batch_end(_, logs):
        float(logs["loss"])  # waits for an accelerator
        times.append(times.pop() + time.perf_counter())

    clock = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda *_, logs: times.append(-time.perf_counter()),
        on_train_batch_end=batch_end,
    )
    rng = np.random.default_rng(0)
    images = rng.random((batch * (WARM_UP + COUNTED), 28, 28, 1), "float32")
    labels = rng.integers(0, 10, len(images))
    before = measure.device_memory()
    model.fit(images, labels, batch, verbose=0, callbacks=[clock])
    whole = measure.device_memory()
    return {
        "images_per_second": batch / statistics.median(times[WARM_UP:]),
        "extra_mb": whole - before,
        "process_mb": whole,
    }


def _network(name, reference):
    from keras_capsules import losses, models
    from keras_capsules.routing import DynamicRouting, EMRouting

    dynamic, em = DynamicRouting, EMRouting
    if reference:
        from benchmarks.references import TextbookEMRouting, TiledRouting

        dynamic, em = TiledRouting, TextbookEMRouting
    if name == "CapsNet":
        model = models.CapsNet((28, 28, 1), 10, routing=dynamic())
        loss = losses.MarginLoss()
    else:
        # The reference implements the cost of the paper.
        route = em(cost="paper")
        model = models.MatrixCapsNet((28, 28, 1), 10, "small", routing=route)
        loss = losses.SpreadLoss()
    model.compile("adam", loss)
    return model


def report(results: list) -> None:
    rows = []
    for task in TASKS:
        reference = {**task, "routing": "reference", "precision": "float32"}
        speed = measure.median(results, "images_per_second", **task)
        if speed is None:
            continue
        slower = measure.ratio(results, "images_per_second", task, reference)
        row = [*task.values(), measure.number(speed)]
        for name in ("extra_mb", "process_mb"):
            row.append(measure.number(measure.median(results, name, **task)))
        faster = None if slower is None else 1.0 / slower
        rows.append([*row, measure.number(faster, ".2f", "×")])
    header = "network, routing, precision, images/s, MB extra, process MB, times faster"
    measure.show(header.split(", "), rows)


def main() -> None:
    import keras

    options = measure.arguments(__doc__.splitlines()[0], "training")
    plain = keras.backend.backend() == "tensorflow"
    tasks = [task for task in TASKS if plain or task["routing"] != "reference"]
    report(measure.run(measure_training, tasks, options))


if __name__ == "__main__":
    sys.exit(main())
