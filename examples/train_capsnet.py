"""Trains the network of "Dynamic routing between capsules" and exports it.

    python examples/train_capsnet.py --dataset digits
    python examples/train_capsnet.py --dataset mnist --precision mixed_bfloat16

The output folder gets metrics.json, history.csv, pictures and the best model;
saved_models/ gets a SavedModel. Stop it whenever you like: --resume goes on
after the last finished epoch.
"""

import argparse
import csv
import importlib
import json
import os
import platform
import statistics
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import keras_capsules
from keras_capsules import (
    callbacks,
    datasets,
    export,
    losses,
    metrics,
    models,
    plotting,
    routing,
)


def positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, received {text}")
    return number


parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument(
    "--dataset",
    choices=["digits", "mnist", "multi_mnist", "aff_mnist"],
    default="digits",
    help="digits needs no download (default: digits)",
)
parser.add_argument("--data-dir", help="folder of TensorFlow Datasets")
parser.add_argument("--epochs", type=positive, default=10)
parser.add_argument("--batch-size", type=positive, default=64)
parser.add_argument(
    "--limit", type=positive, help="use only so many images of each split"
)
parser.add_argument("--output", type=Path, help="default: runs/capsnet_DATASET")
parser.add_argument(
    "--resume",
    action="store_true",
    help="go on with the run there; more epochs stretch its learning-rate schedule",
)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument(
    "--precision",
    choices=["float32", "mixed_bfloat16", "mixed_float16"],
    default="float32",
)
parser.add_argument("--iterations", type=positive, default=3, help="routing iterations")
parser.add_argument("--loop", choices=["while", "unroll"], default="while")
parser.add_argument("--no-reconstruction", action="store_true", help="no decoder")
args = parser.parse_args()

output = args.output or Path("runs") / f"capsnet_{args.dataset}"
settings = {
    name: getattr(args, name) for name in ("dataset", "limit", "batch_size", "seed")
}
settings_file = output / "settings.json"
try:
    output.mkdir(parents=True, exist_ok=True)
    history = callbacks.Checkpoint.history_of(output)
    kept = json.loads(settings_file.read_text()) if history else settings
except (OSError, ValueError) as error:
    sys.exit(f"Can't use --output {output}: {error}")
if history and not args.resume:
    parser.error(f"{output} holds a run: add --resume, or choose another --output")
if kept != settings:
    sys.exit(f"Can't resume: {output} was made with {kept}. Received: {settings}")
if args.resume and not history:
    print(f"{output} holds no run to go on with: this one starts afresh.")
if not history:
    settings_file.write_text(json.dumps(settings))

# A run that goes on must not see the order and the shifts of its first epoch again.
seed = args.seed + len(history)
keras.utils.set_random_seed(seed)
keras.config.set_dtype_policy(args.precision)

# Data: images from 0 to 1; centred digits are shifted by up to 2 pixels to train on.
load = {
    "digits": datasets.digits,
    "mnist": lambda: datasets.mnist(args.data_dir),
    "multi_mnist": lambda: datasets.multi_mnist(args.data_dir, seed),
    "aff_mnist": lambda: datasets.aff_mnist(args.data_dir, seed),
}[args.dataset]
try:
    train, validation, test = (part.take(args.limit or -1) for part in load())
except FileNotFoundError as error:
    sys.exit(str(error))
images = len(train)
image_shape = tuple(train.element_spec[0].shape)
train = train.shuffle(10_000, seed)
if args.dataset in ("digits", "mnist"):  # the others lie at random as they are
    train = datasets.random_shift(train, 2, seed)
train = train.batch(args.batch_size).prefetch(2)
validation, test = validation.batch(args.batch_size), test.batch(args.batch_size)

# Model: the sizes of the paper are the defaults.
objects = 2 if args.dataset == "multi_mnist" else 1
model = models.CapsNet(
    image_shape,
    classes=10,
    routing=routing.DynamicRouting(args.iterations, args.loop),
    decoder_units=None if args.no_reconstruction else (512, 1024),
    objects=objects,
)
learning_rate = keras.optimizers.schedules.ExponentialDecay(
    0.001, decay_steps=args.epochs * len(train), decay_rate=0.05
)
model.compile(
    keras.optimizers.Adam(learning_rate),
    loss=losses.MarginLoss(),
    metrics=["accuracy" if objects == 1 else metrics.ExactMatch(name="accuracy")],
)
model.summary()

# Training.
if history:
    try:
        model, history = callbacks.Checkpoint.load(output, like=model)
    except ValueError as error:
        sys.exit(f"Can't resume: {error}")
    # Another number of epochs stretches the schedule.
    model.optimizer.learning_rate = learning_rate
    print(f"Going on after epoch {len(history)}.")
checkpoint = callbacks.Checkpoint(output, history=history)
try:
    model.fit(
        train,
        validation_data=validation,
        initial_epoch=len(history),
        epochs=args.epochs,
        callbacks=[checkpoint],
        shuffle=False,  # the data set does it
    )
except KeyboardInterrupt:
    done = len(checkpoint.history)
    sys.exit(f"\nStopped after {done} finished epochs: --resume goes on from there.")
history = checkpoint.history

# Results of the best epoch.
backend = keras.backend.backend()
model = keras.saving.load_model(output / "best.keras")
print("Test images:")
accuracy = model.evaluate(test, return_dict=True)["accuracy"]
results = {
    **settings,
    "iterations": args.iterations,
    "test_accuracy": accuracy,
    "test_error": 1.0 - accuracy,
    "epochs": len(history),
    "seconds": sum(row["seconds"] for row in history),
    "images_per_second": images / statistics.median(row["seconds"] for row in history),
    "parameters": model.count_params(),
    "precision": args.precision,
    "versions": {
        "python": platform.python_version(),
        "keras_capsules": keras_capsules.__version__,
        "keras": keras.version(),
        backend: importlib.import_module(backend).__version__,
    },
}
(output / "metrics.json").write_text(json.dumps(results, indent=2) + "\n")
with open(output / "history.csv", "w", newline="") as file:
    writer = csv.DictWriter(file, history[0])
    writer.writeheader()
    writer.writerows(history)

# Pictures.
examples, labels = (np.asarray(part) for part in next(iter(test.rebatch(10))))
pictures = {"curves": plotting.curves(history)}
if model.decoder is not None:
    if objects == 1:
        figure = plotting.reconstructions(model, examples, labels)
    else:
        figure = plotting.objects_apart(model, examples, labels)
    pictures["reconstructions"] = figure
    pictures["pose_tweaks"] = plotting.pose_tweaks(model, examples[0])
for picture, figure in pictures.items():
    figure.savefig(output / f"{picture}.png")

# The network for programs that know nothing of capsules.
if backend == "tensorflow":
    saved = export.export_saved_model(
        model, Path("saved_models") / output.name, overwrite=True
    )
else:
    saved = "not exported: only TensorFlow writes SavedModels"

print()
for key, value in results.items():
    print(
        f"{key:>18}  {value:.4f}" if isinstance(value, float) else f"{key:>18}  {value}"
    )
print(f"{'files':>18}  {output}: {', '.join(sorted(p.name for p in output.iterdir()))}")
print(f"{'SavedModel':>18}  {saved}")
