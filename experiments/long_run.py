"""Trains on MultiMNIST for some minutes, and goes on later, also on another machine.

    python -m experiments.long_run --only-digits
    python -m experiments.long_run --minutes 9
    python -m experiments.long_run --minutes 9 --resume

Pairs of all 60,000 training digits are made on the device, without end. In each call
the learning rate rises and decays to zero along a cosine, and the network is tested at
the end. The clock is read after every 60,000 pairs; reading and testing take a minute
more. The output folder receives metrics.json and the weights, in float16 and in files
of at most 16 MiB. Weights are written after 60,000 pairs, at most once a minute, and
--resume goes on from them. The state of the optimizer is not kept. Ctrl-C stops the
script at any time; --resume then finishes the interrupted call.

The first command makes the file of --digits, with TensorFlow Datasets. A machine that
has this file needs no TensorFlow: KERAS_BACKEND=jax. To continue on another machine,
copy this file and the output folder.
"""

import json
import math
import os
import sys
import time
import zipfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from benchmarks import measure
from benchmarks.gpu import device_datasets
from experiments import networks
from experiments.flags import PRECISIONS, above_zero, natural, parser_of, positive
from keras_capsules import callbacks, files, losses, metrics, models

LARGEST_FILE = 2**24  # bytes
HEADERS = 1_000  # more bytes than the headers of a file, or of an array in it, have
WARM_UP = 0.03  # share of the minutes in which the learning rate rises
UNREADABLE = (EOFError, KeyError, OSError, ValueError, zipfile.BadZipFile)


def write_digits(path, data_dir):
    """Writes the training digits and the test pairs of MultiMNIST to one file."""
    from keras_capsules import datasets

    splits = datasets.mnist(data_dir)
    pairs = datasets.multi_mnist(data_dir).test
    arrays = {}
    for name, split in (
        ("digits", splits.train.concatenate(splits.validation)),
        ("pairs", pairs),
    ):
        images, labels = split.batch(len(split)).get_single_element()
        arrays[name] = np.rint(255.0 * images.numpy()).astype("uint8")
        arrays[f"{name}_labels"] = labels.numpy().astype("uint8")
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replaced(path) as unfinished, open(unfinished, "wb") as file:
        np.savez_compressed(file, **arrays)


def read_digits(path):
    """Reads the file of `write_digits`.

    Returns:
        The digits and the test pairs, each a tuple of images and labels.
    """
    with np.load(path) as file:
        return [
            (file[name].astype("float32") / 255.0, file[f"{name}_labels"].astype(dtype))
            for name, dtype in (("digits", "int32"), ("pairs", "float32"))
        ]


def network(name, image_shape, reconstruction_weight):
    """Builds `networks.convolutional`, or a variant of `models.CapsNet`."""
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
    """Writes the weights of a model in float16, and then progress.json.

    Raises:
        ValueError: a weight is not finite. The files are left as they were.
    """
    parts, room = [], 0
    for weight in model.get_weights():
        with np.errstate(over="ignore"):
            array = weight.astype("float16")
        if not np.isfinite(array).all():
            raise ValueError(
                f"After {progress['pairs']:,} pairs the weights are not finite in "
                f"float16. {folder} has the earlier ones; lower --learning-rate"
            )
        if array.nbytes + HEADERS > room:
            parts.append([])
            room = LARGEST_FILE - HEADERS
        parts[-1].append(array)
        room -= array.nbytes + HEADERS
    names = [f"weights_{progress['pairs']}_{i}.npz" for i in range(len(parts))]
    for name, arrays in zip(names, parts, strict=True):
        with files.replaced(folder / name) as unfinished:
            np.savez(unfinished, *arrays)
    progress["weights"] = names
    write_progress(folder, progress)
    for path in folder.glob("weights_*.npz"):
        if path.name not in names:
            path.unlink()


def write_progress(folder, progress):
    with files.replaced(folder / "progress.json") as unfinished:
        unfinished.write_text(json.dumps(progress, indent=1))


def read_weights(model, folder):
    """Sets the weights of a model to those in a folder."""
    arrays = []
    for name in json.loads((folder / "progress.json").read_text())["weights"]:
        with np.load(folder / name) as file:
            arrays += [file[key].astype("float32") for key in file.files]
    model.set_weights(arrays)


class Clock(keras.callbacks.Callback):
    """Ends a training after some minutes.

    At the beginning of each epoch it sets the learning rate.

    Args:
        minutes: length of the training.
        learning_rate: the largest learning rate.
        pairs: number of pairs of an epoch.
        folder: where the weights are written.
        progress: the pairs and minutes of the whole training, and the minutes of this
            call, as an interrupted one has left them. They are updated.
    """

    def __init__(self, minutes, learning_rate, pairs, folder, progress):
        super().__init__()
        self.minutes, self.learning_rate, self.pairs = minutes, learning_rate, pairs
        self.folder, self.progress = folder, progress

    def on_train_begin(self, logs=None):
        self.read = self.written = time.monotonic()

    def on_epoch_begin(self, epoch, logs=None):
        share = min(1.0, self.progress["call"] / self.minutes)
        rising = min(1.0, 0.1 + share / WARM_UP)
        decay = 0.5 + 0.5 * math.cos(math.pi * share)
        self.model.optimizer.learning_rate = self.learning_rate * rising * decay

    def on_epoch_end(self, epoch, logs=None):
        now = time.monotonic()
        minutes, self.read = (now - self.read) / 60.0, now
        self.progress["pairs"] += self.pairs
        self.progress["minutes"] += minutes
        self.progress["call"] += minutes
        call = self.progress["call"]
        done = self.model.stop_training = call >= self.minutes
        if not epoch:
            self.bar = keras.utils.Progbar(
                100, unit_name="percent", stateful_metrics=list(logs)
            )
        self.bar.update(min(100, int(100 * call / self.minutes)), list(logs.items()))
        if done or now - self.written > 60.0:
            write_weights(self.model, self.folder, self.progress)
            self.written = now


def main():
    callbacks.exit_cleanly("--resume goes on from the weights in --output.")
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("--minutes", type=above_zero, default=9.0, help="length of the training")
    names = [*models.CapsNet.variants, "convolutional"]
    add("--network", choices=names, default="paper")
    add("--digits", type=Path, default=Path("runs/multi_mnist.npz"))
    add("--only-digits", action="store_true", help="only make the file of --digits")
    add("--data-dir", help="folder of TensorFlow Datasets data")
    add("--output", type=Path, default=Path("runs/long_run"))
    add("--resume", action="store_true", help="go on from the weights in --output")
    add("--batch-size", type=positive, default=256)
    add("--learning-rate", type=above_zero, default=0.001, help="the largest")
    add(
        "--reconstruction-weight",
        type=above_zero,
        default=0.392,
        help="as in experiments.train",
    )
    add("--precision", choices=PRECISIONS, default="mixed_bfloat16")
    add("--seed", type=natural, default=0)
    args = parser.parse_args()

    try:
        if not args.digits.exists():
            write_digits(args.digits, args.data_dir)
        digits, (pairs, labels) = read_digits(args.digits)
    except (ImportError, *UNREADABLE) as error:
        sys.exit(f"Can't make or read --digits {args.digits}: {error}")
    if args.only_digits:
        print(f"{args.digits}: {len(labels):,} test pairs, {len(digits[0]):,} digits")
        return
    if args.batch_size > len(digits[0]):
        parser.error(f"--batch-size must be at most {len(digits[0])}")
    args.output.mkdir(parents=True, exist_ok=True)
    try:
        # Until metrics.json is written no other process may change the files.
        with files.locked(args.output, wait=False):
            train_and_test(args, digits, pairs, labels)
    except BlockingIOError:
        sys.exit(f"Another process trains in {args.output}")


def train_and_test(args, digits, pairs, labels):
    """Trains a network for some minutes, tests it and writes metrics.json."""
    progress = progress_of(args)
    keras.config.set_dtype_policy(args.precision)
    seed = args.seed + progress["pairs"]
    keras.utils.set_random_seed(seed)
    model = network(args.network, pairs.shape[1:], args.reconstruction_weight)
    train = device_datasets().OverlaidImages(
        digits, args.batch_size, own_images=model.decoder is not None, seed=seed
    )
    model.compile(
        keras.optimizers.Adam(args.learning_rate),
        loss=losses.MarginLoss(),
        metrics=[metrics.ExactMatch(name="accuracy")],
    )
    if progress["pairs"]:
        try:
            read_weights(model, args.output)
        except UNREADABLE as error:
            sys.exit(f"Can't go on with {args.output}: {error}")
        print(f"Going on after {progress['pairs']:,} pairs.")
    elif args.resume:
        print(f"{args.output} holds no weights: starting with new ones.")
    (args.output / "metrics.json").unlink(missing_ok=True)  # of an earlier call
    if progress["call"] >= args.minutes:
        print("The minutes are over: only the test is left.")
    else:
        clock = Clock(
            args.minutes,
            args.learning_rate,
            len(train) * args.batch_size,
            args.output,
            progress,
        )
        try:
            model.fit(train, epochs=sys.maxsize, verbose=0, callbacks=[clock])
        except ValueError as error:
            sys.exit(str(error))
        read_weights(model, args.output)  # as they were rounded

    print("\nTest pairs:")
    found = model.evaluate(pairs, labels, batch_size=500, return_dict=True)
    settings = "network", "batch_size", "learning_rate", "precision", "seed"
    results = {
        "command": f"python -m experiments.long_run --network {args.network} "
        f"--minutes {args.minutes:g}",
        "machine": measure.machine(),
        **{name: getattr(args, name) for name in settings},
        "reconstruction_weight": args.reconstruction_weight,
        "pairs": progress["pairs"],
        "epochs": round(progress["pairs"] / len(digits[0])),
        "seconds": 60.0 * progress["minutes"],
        "parameters": model.count_params(),
        "test_error": 1.0 - found["accuracy"],
    }
    with files.replaced(args.output / "metrics.json") as unfinished:
        unfinished.write_text(json.dumps(results, indent=1))
    write_progress(args.output, {**progress, "call": 0.0})  # the next call is a new one
    for name in ("pairs", "seconds", "parameters", "test_error"):
        print(f"{name:>12}  {results[name]:,.10g}")


def progress_of(args):
    """Returns the progress that an earlier call has left in the output folder."""
    kept = args.output / "progress.json"
    if not kept.exists():
        return {"network": args.network, "pairs": 0, "minutes": 0.0, "call": 0.0}
    try:
        progress = json.loads(kept.read_text())
    except UNREADABLE as error:
        sys.exit(f"Can't go on with {kept}: {error}")
    if not args.resume:
        sys.exit(f"{args.output} holds a run: add --resume, or another --output")
    if progress["network"] != args.network:
        sys.exit(
            f"{args.output} holds a run of --network {progress['network']}, "
            f"received {args.network}"
        )
    return progress


if __name__ == "__main__":
    main()
