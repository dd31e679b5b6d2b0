"""Measures size, time for one image and test accuracy of exported networks.

    python -m benchmarks.exports --rounds 1

Two trained networks of the package are measured on MNIST.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import measure

# Data sets for the test, by the preset or file of the network.
NETWORKS = {
    "capsnet_mnist_small": "mnist",
    "matrix_capsnet_mnist_small": "mnist",
}
FORMS = (
    "Keras",
    "SavedModel",
    "ONNX",
    "ONNX with loops",
    "LiteRT",
    "LiteRT float16",
    "LiteRT int8",
)
BATCH = 100


def measure_export(network: str, form: str, limit: int | None = None) -> dict:
    """Measures the size in MB, the time for one image in ms, and the accuracy.

    Args:
        network: a key of `NETWORKS`, which is a preset or a `.keras` file.
        form: one of `FORMS`.
        limit: number of test images; by default all.
    """
    from keras_capsules import datasets, models

    model = models.Classifier.from_preset(network)
    test = getattr(datasets, NETWORKS[network])().test
    test = test.take(limit or len(test)).batch(BATCH)
    with tempfile.TemporaryDirectory() as folder:
        size, predict = written(model, form, Path(folder))
        right = [
            predict(images).argmax(-1) == labels
            for images, labels in test.as_numpy_iterator()
        ]
        image = next(test.unbatch().batch(1).as_numpy_iterator())[0]
        return {
            "mb": size / 1e6,
            "image_ms": measure.median_ms(lambda: predict(image), times=200),
            "accuracy": float(np.concatenate(right).mean()),
        }


def written(model, form: str, folder: Path) -> tuple[int, Callable]:
    """Exports a network in one form.

    Args:
        model: the network.
        form: one of `FORMS`.
        folder: the network is exported to this folder.

    Returns:
        The number of bytes, and a function that takes images and returns scores.
    """
    from keras_capsules import export

    if form == "Keras":
        path = folder / "network.keras"
        model.save(path)
        return path.stat().st_size, lambda x: model.predict_on_batch(x)["scores"]
    if form == "SavedModel":
        import tensorflow as tf

        path = export.export_saved_model(model, folder)
        served = tf.saved_model.load(str(path)).signatures["serving_default"]
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        return size, lambda x: served(images=tf.constant(x))["scores"].numpy()
    if form.startswith("ONNX"):
        from onnxruntime import InferenceSession

        path = folder / "network.onnx"
        export.export_onnx(model, path, loops=form == "ONNX with loops")
        session = InferenceSession(path)
        run = session.run
        return path.stat().st_size, lambda x: run(["scores"], {"images": x})[0]
    from ai_edge_litert.interpreter import Interpreter

    _, _, precision = form.partition(" ")
    path = folder / "network.tflite"
    export.export_litert(model, path, precision or "float32")
    runner = Interpreter(str(path)).get_signature_runner()
    return path.stat().st_size, lambda x: runner(images=x)["scores"]


def report(results: list) -> None:
    rows = []
    for network in NETWORKS:
        for form in FORMS:
            task = {"network": network, "form": form}
            if not any(task.items() <= result.items() for result in results):
                continue
            found = {
                name: measure.median(results, name, **task)
                for name in ("mb", "image_ms", "accuracy")
            }
            size = measure.number(found["mb"], ".2f")
            time = measure.number(found["image_ms"], ".2f")
            accuracy = measure.number(found["accuracy"], ".2%")
            rows.append([network, form, size, time, accuracy])
    measure.show(["network", "form", "MB", "ms an image", "test accuracy"], rows)


def main() -> None:
    options = measure.arguments(__doc__.splitlines()[0], "exports")
    tasks = [
        {"network": network, "form": form} for network in NETWORKS for form in FORMS
    ]
    report(measure.run(measure_export, tasks, options))


if __name__ == "__main__":
    sys.exit(main())
