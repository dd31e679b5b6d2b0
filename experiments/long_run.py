"""Trains on MultiMNIST for some minutes, and goes on later, on the same or another GPU.

    python -m experiments.long_run --minutes 9
    python -m experiments.long_run --minutes 9 --resume

Pairs of all 60,000 training digits are made on the device, without end. In each call
the learning rate rises and decays to zero along a cosine, and the network is tested at
the end. The clock is read after every 60,000 pairs, a second on a fast GPU. The output
folder receives metrics.json and the weights, in float16 and in files of at most 16 MiB.
Weights are written once a minute; Ctrl-C stops the script at any time.

TensorFlow Datasets makes the file of --digits once. A machine that has the file needs
no TensorFlow: KERAS_BACKEND=jax. To go on there, copy the output folder as well.
"""

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from benchmarks.gpu import device_datasets
from experiments import networks
from keras_capsules import callbacks, files, losses, metrics, models

LARGEST = 2**24  # bytes of a file of weights
WARM_UP = 0.03  # share of a call in which the learning rate rises


def write_digits(path, data_dir):
    """Writes the training digits and the test pairs of MultiMNIST to one file."""
    from keras_capsules import datasets

    splits = datasets.mnist(data_dir)
    digits = splits.train.concatenate(splits.validation)
    arrays = {}
    pairs = datasets.multi_mnist(data_dir).test
    for name, split in (("digits", digits), ("pairs", pairs)):
        images, labels = split.batch(100_000).get_single_element()
        arrays[name] = np.rint(255.0 * images.numpy()).astype("uint8")
        arrays[f"{name}_labels"] = labels.numpy().astype("uint8")
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replaced(path) as unfinished:
        np.savez_compressed(unfinished, **arrays)


def read_digits(path):
    """Reads what `write_digits` has written: two pairs of images and labels."""
    with np.load(path) as file:
        return [
            (file[name].astype("float32") / 255.0, file[f"{name}_labels"].astype(dtype))
            for name, dtype in (("digits", "int32"), ("pairs", "float32"))
        ]


def network(name, image_shape, reconstruction_weight):
    """Builds a variant of `models.CapsNet`, or `networks.convolutional`."""
    if name == "convolutional":
        # The moving averages of its batch normalization span 100 steps.
        return networks.convolutional(
            image_shape, 10, "self_attention", steps=200, epochs=1, objects=2
        )
    return models.CapsNet(
        image_shape,
        10,
        objects=2,
        reconstruction_weight=reconstruction_weight,
        **models.CapsNet.variants[name],
    )


def write_weights(model, folder, progress):
    """Writes the weights of a model in float16, and then progress.json."""
    parts, room = [], 0
    for weight in model.get_weights():
        array = weight.astype("float16")
        if array.nbytes > room:
            parts.append([])
            room = LARGEST - 1_000  # names and shapes
        parts[-1].append(array)
        room -= array.nbytes + 500
    names = [f"weights_{progress['pairs']}_{i}.npz" for i in range(len(parts))]
    for name, arrays in zip(names, parts, strict=True):
        with files.replaced(folder / name) as unfinished:
            np.savez(unfinished, *arrays)
    with files.replaced(folder / "progress.json") as unfinished:
        unfinished.write_text(json.dumps({**progress, "weights": names}, indent=1))
    for path in folder.glob("weights_*.npz"):
        if path.name not in names:
            path.unlink()


def read_weights(model, folder, names):
    """Sets the weights of a model to those in a folder."""
    arrays = []
    for name in names:
        with np.load(folder / name) as file:
            arrays += [file[key] for key in file.files]
    model.set_weights([array.astype("float32") for array in arrays])


class Minutes(keras.callbacks.Callback):
    """Ends a training after some minutes, and sets the learning rate until then.

    Args:
        minutes: length of the training.
        largest: the largest learning rate.
        pairs: number of pairs of an epoch.
        folder: where the weights are written.
        progress: the pairs and the minutes of earlier calls; it is updated.
    """

    def __init__(self, minutes, largest, pairs, folder, progress):
        super().__init__()
        self.minutes, self.largest, self.pairs = minutes, largest, pairs
        self.folder, self.progress = folder, progress
        self.before = progress["minutes"]

    def on_train_begin(self, logs=None):
        self.start = self.written = time.monotonic()
        self.bar = keras.utils.Progbar(100, unit_name="percent")

    def on_epoch_begin(self, epoch, logs=None):
        rise = min(1.0, 0.1 + self.share() / WARM_UP)
        fall = 0.5 + 0.5 * math.cos(math.pi * self.share())
        self.model.optimizer.learning_rate = self.largest * rise * fall

    def on_epoch_end(self, epoch, logs=None):
        self.progress["pairs"] += self.pairs
        minutes = (time.monotonic() - self.start) / 60.0
        self.progress["minutes"] = self.before + minutes
        self.model.stop_training = self.share() == 1.0
        self.bar.update(int(100 * self.share()), list(logs.items()))
        if self.model.stop_training or time.monotonic() - self.written > 60.0:
            write_weights(self.model, self.folder, self.progress)
            self.written = time.monotonic()

    def share(self):
        """Returns the share of the minutes that has passed, from 0 to 1."""
        return min(1.0, (time.monotonic() - self.start) / 60.0 / self.minutes)


def main():
    callbacks.exit_cleanly("--resume goes on from the weights of the last minute.")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--minutes", type=float, default=9.0)
    names = [*models.CapsNet.variants, "convolutional"]
    add("--network", choices=names, default="paper")
    add("--digits", type=Path, default=Path("runs/multi_mnist.npz"))
    add("--data-dir", help="folder of TensorFlow Datasets data")
    add("--output", type=Path, default=Path("runs/long_run"))
    add("--resume", action="store_true", help="go on from the weights in --output")
    add("--batch-size", type=int, default=256)
    add("--learning-rate", type=float, default=0.001, help="the largest")
    add("--reconstruction-weight", type=float, default=0.392)
    add("--precision", default="mixed_bfloat16")
    add("--seed", type=int, default=0)
    args = parser.parse_args()
    for name in ("minutes", "learning_rate", "reconstruction_weight"):
        if not 0.0 < getattr(args, name) < math.inf:
            flag = name.replace("_", "-")
            parser.error(f"--{flag} must be above 0, received {getattr(args, name)}")

    kept = args.output / "progress.json"
    if kept.exists() and not args.resume:
        parser.error(f"{args.output} holds a run: add --resume, or another --output")
    progress = {"network": args.network, "pairs": 0, "minutes": 0.0}
    if kept.exists():
        progress = json.loads(kept.read_text())
        if progress["network"] != args.network:
            parser.error(
                f"{args.output} holds a run of --network {progress['network']}, "
                f"received {args.network}"
            )
    if not args.digits.exists():
        try:
            write_digits(args.digits, args.data_dir)
        except (ImportError, OSError, ValueError) as error:
            sys.exit(f"{args.digits} is missing and can't be made: {error}")
    args.output.mkdir(parents=True, exist_ok=True)

    keras.config.set_dtype_policy(args.precision)
    keras.utils.set_random_seed(args.seed + progress["pairs"])
    digits, (pairs, labels) = read_digits(args.digits)
    model = network(args.network, pairs.shape[1:], args.reconstruction_weight)
    if "weights" in progress:
        read_weights(model, args.output, progress["weights"])
        print(f"Going on after {progress['pairs']:,} pairs.")
    train = device_datasets().OverlaidImages(
        digits,
        args.batch_size,
        own_images=model.decoder is not None,
        seed=args.seed + progress["pairs"],
    )
    model.compile(
        keras.optimizers.Adam(args.learning_rate),
        loss=losses.MarginLoss(),
        metrics=[metrics.ExactMatch(name="accuracy")],
    )
    minutes = Minutes(
        args.minutes,
        args.learning_rate,
        len(train) * args.batch_size,
        args.output,
        progress,
    )
    model.fit(train, epochs=sys.maxsize, verbose=0, callbacks=[minutes])

    print("Test pairs:")
    accuracy = model.evaluate(pairs, labels, batch_size=500, return_dict=True)
    settings = {name: str(value) for name, value in vars(args).items()}
    results = {
        **settings,
        "seed": args.seed,
        "pairs": progress["pairs"],
        "epochs": round(progress["pairs"] / len(digits[0])),
        "seconds": 60.0 * progress["minutes"],
        "parameters": model.count_params(),
        "test_error": 1.0 - accuracy["accuracy"],
    }
    with files.replaced(args.output / "metrics.json") as unfinished:
        unfinished.write_text(json.dumps(results, indent=1))
    for name in ("pairs", "seconds", "parameters", "test_error"):
        print(f"{name:>12}  {results[name]:,.10g}")


if __name__ == "__main__":
    main()
