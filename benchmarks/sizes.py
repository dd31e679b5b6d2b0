"""Measures the networks on colour images of several sizes.

    python -m benchmarks.sizes

The table has the number of parameters, the memory, the scores before the training and
the accuracy after the first and last epoch. Each network has its default arguments and
three classes, and is trained on 60 images of a disc, a square or stripes. Before the
training the scores should be close to 0.5, neither all 0 nor all 1. Memory is the peak
memory of the process after ten epochs in batches of 16, minus its memory before the
network is built.
"""

import numpy as np

from benchmarks import measure

SIZES = (32, 64, 128, 224)
# A step of MatrixCapsNet is slow for large images: it has capsules at every position.
NETWORKS = {
    "CapsuleClassifier": SIZES,
    "EfficientCapsNet": SIZES,
    "CapsNet": (32, 64),
    "MatrixCapsNet": (32,),
}
# With Adam's default of 0.001 the capsules of CapsNet become too short to learn.
LEARNING_RATES = {"CapsNet": 0.0003}
IMAGES, CLASSES, EPOCHS, BATCH = 60, 3, 10, 16


def shapes(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns images of shapes with random colours and positions, and their labels."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size] / size
    images, labels = [], np.arange(IMAGES) % CLASSES
    for label in labels:
        y, x = rng.uniform(0.35, 0.65, 2)
        radius = rng.uniform(0.2, 0.35)
        shape = {
            0: np.hypot(rows - y, columns - x) < radius,
            1: np.maximum(abs(rows - y), abs(columns - x)) < radius,
            2: np.sin(20.0 * (rows + columns + y)) > 0.0,
        }[int(label)]
        colors = rng.uniform(size=(2, 3))
        images.append(np.where(shape[..., None], *colors))
    return np.asarray(images, "float32"), labels


def first_steps(backend: str, network: str, size: int) -> dict:
    """Measures a network at the beginning of its training."""
    import keras

    from keras_capsules import losses, models

    keras.utils.set_random_seed(0)
    images, labels = shapes(size)
    before = measure.peak_memory()
    model = getattr(models, network)((size, size, 3), CLASSES)
    scores = model.predict(images, BATCH, verbose=0)["scores"]
    optimizer = keras.optimizers.Adam(LEARNING_RATES.get(network, 0.001))
    model.compile(optimizer, losses.MarginLoss(), metrics=["accuracy"])
    history = model.fit(images, labels, BATCH, epochs=EPOCHS, verbose=0).history
    return {
        "parameters": model.count_params(),
        "mean": float(scores.mean()),
        "deviation": float(scores.std()),
        "first": history["accuracy"][0],
        "last": history["accuracy"][-1],
        "mb": measure.peak_memory() - before,
    }


def main() -> None:
    options = measure.arguments(__doc__.splitlines()[0], "sizes")
    tasks = [
        {"backend": "tensorflow", "network": network, "size": size}
        for network, sizes in NETWORKS.items()
        for size in sizes
    ]
    rows = [
        [
            found["network"],
            f"{found['size']}×{found['size']}",
            f"{found['parameters']:,}",
            f"{found['mb']:,.0f}",
            f"{found['mean']:.2f} ± {found['deviation']:.2f}",
            f"{100.0 * found['first']:.0f}, {100.0 * found['last']:.0f}",
        ]
        for found in measure.run(first_steps, tasks, options)
    ]
    columns = ["network", "image", "parameters", "MB", "scores before"]
    measure.show([*columns, f"accuracy in %, epoch 1 and {EPOCHS}"], rows)


if __name__ == "__main__":
    main()
