"""Trains the network of "Matrix capsules with EM routing" and exports it.

    python examples/train_matrix_capsnet.py --dataset digits --batch-size 16
    python examples/train_matrix_capsnet.py --dataset mnist --epochs 6
    python examples/train_matrix_capsnet.py --dataset toys --variant paper

The output folder receives metrics.json, history.csv, figures and the best model. The
network is exported to saved_models/, with TensorFlow also as a SavedModel. Ctrl-C stops
the training at any time; --resume continues it after the last finished epoch.
"""

import argparse
import importlib.util
import json
import os
import signal
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Imports can swallow KeyboardInterrupt. Until exit_cleanly, Ctrl-C ends the process.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import keras
import numpy as np

from keras_capsules import (
    callbacks,
    datasets,
    export,
    files,
    losses,
    models,
    plotting,
    routing,
)

TOYS = ["toys", "toys/full", "smallnorb"]
PRECISIONS = ["float32", "mixed_bfloat16", "mixed_float16"]

callbacks.exit_cleanly("--resume goes on from the last finished epoch.")

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
add = parser.add_argument
add("--dataset", choices=["digits", "mnist", *TOYS], default="digits")
add("--data-dir", help="folder of TensorFlow Datasets data")
add("--limit", type=int, default=-1, help="use only this many images of each split")
add(
    "--variant",
    choices=models.MatrixCapsNet.variants,
    default="small",
    help="layer sizes",
)
add("--iterations", type=int, default=3, help="routing iterations")
add("--epochs", type=int, default=10)
add("--batch-size", type=int, default=64)
add("--precision", choices=PRECISIONS, default="float32")
add("--on-device", action="store_true", help="keep images of digits in GPU memory")
add("--seed", type=int, default=0)
add("--output", type=Path, help="folder (default: runs/matrix_capsnet_DATASET)")
add("--resume", action="store_true", help="continue the run in --output")
args = parser.parse_args()
if args.on_device and args.dataset in TOYS:
    parser.error(f"--on-device is for digits. Received: --dataset {args.dataset}")

output = args.output or Path(f"runs/matrix_capsnet_{args.dataset.replace('/', '_')}")
exported = Path("saved_models") / output.name
if output.name in models.Classifier.preset_names():
    parser.error(f"--output {output}: {exported} is a network of the package")
try:
    finished = len(callbacks.Checkpoint.history_of(output))
except ValueError as error:
    parser.error(str(error))
if finished and not args.resume:
    parser.error(f"{output} holds a run: add --resume, or choose another --output")
keras.config.set_dtype_policy(args.precision)
# A resumed run must not see the images in the order of its first epoch again.
seed = args.seed + finished
keras.utils.set_random_seed(seed)

# Data. Digits are shifted at random by up to two pixels;
# images of toys are already cropped at random.
load = {
    "digits": datasets.digits,
    "mnist": lambda: datasets.mnist(args.data_dir),
    "toys": lambda: datasets.toys("small", args.data_dir, seed=seed),
    "toys/full": lambda: datasets.toys("full", args.data_dir, seed=seed),
    "smallnorb": lambda: datasets.smallnorb(args.data_dir, seed=seed),
}
try:
    splits = load[args.dataset]()
except (OSError, ValueError) as error:
    sys.exit(str(error))
train, validation, test = (split.take(args.limit) for split in splits)
image_shape = tuple(train.element_spec[0].shape)
if args.on_device:
    try:
        train = datasets.ShiftedImages(train, args.batch_size, seed=seed)
    except ValueError as error:
        sys.exit(str(error))
else:
    train = train.shuffle(10_000, seed)
    if args.dataset not in TOYS:
        train = datasets.random_shift(train, 2, seed)
    train = train.batch(args.batch_size).prefetch(2)
validation, test = (split.batch(args.batch_size) for split in (validation, test))

# Model. The moving averages of the weights and of the normalized costs span half an
# epoch.
momentum = 1.0 - 1.0 / max(2, len(train) // 2)
model = models.MatrixCapsNet(
    input_shape=image_shape,
    classes=5 if args.dataset in TOYS else 10,
    variant=args.variant,
    routing=routing.EMRouting(args.iterations, momentum=momentum),
)
model.summary()

# Training. The margin of the loss grows during the first half of the steps.
steps = args.epochs * len(train)
learning_rate = keras.optimizers.schedules.CosineDecay(
    0.0, steps, alpha=0.01, warmup_target=0.01, warmup_steps=min(200, steps // 10)
)
optimizer = keras.optimizers.Adam(learning_rate, use_ema=True, ema_momentum=momentum)
model.compile(optimizer, loss=losses.SpreadLoss(), metrics=["accuracy"])

# The loss grows with its margin, so the accuracy chooses the best epoch.
checkpoint = callbacks.Checkpoint(output, monitor="val_accuracy", mode="max")
try:
    checkpoint.restore(model)
except ValueError as error:
    sys.exit(f"Can't resume: {error}")
if finished:
    print(f"Going on after epoch {finished}.")
# The training can take days, so an unwritable folder is reported now. The metrics.json
# of an earlier, shorter training would be wrong.
exported.mkdir(parents=True, exist_ok=True)
tempfile.TemporaryFile(dir=exported).close()
(output / "metrics.json").unlink(missing_ok=True)
try:
    model.fit(
        train,
        validation_data=validation,
        initial_epoch=finished,
        epochs=args.epochs,
        callbacks=[
            callbacks.SpreadMarginSchedule(steps=max(1, steps // 16)),
            callbacks.RoutingMonitor(next(iter(validation))[0][:32]),
            keras.callbacks.SwapEMAWeights(),
            checkpoint,
        ],
    )
except ValueError as error:
    sys.exit(str(error))

# Results of the best epoch.
print("Test images:")
best = keras.saving.load_model(output / "best.keras")
accuracy = best.evaluate(test, return_dict=True)["accuracy"]
images, labels = (np.asarray(part) for part in next(iter(test)))
plotting.curves(checkpoint.history).savefig(output / "curves.png")
plotting.routing_history(checkpoint.history).savefig(output / "routing.png")
plotting.vote_distances(best, images, labels).savefig(output / "vote_distances.png")
plotting.assignments(best, images[0]).savefig(output / "assignments.png")

# Export, without the optimizer. The served network takes whole images of toys and crops
# them.
best = keras.saving.load_model(output / "best.keras", compile=False)
with files.replaced(exported / "model.keras") as unfinished:
    best.save(unfinished)
if keras.backend.backend() == "tensorflow":
    whole = {"preprocess": datasets.central_crop, "pixels_shape": (48, 48, 1)}
    export.export_saved_model(
        best,
        exported,
        overwrite=True,
        warm_up=importlib.util.find_spec("tensorflow_serving") is not None,
        **(whole if args.dataset in TOYS else {}),
    )

results = {
    "test_accuracy": accuracy,
    "test_error": 1.0 - accuracy,
    "epochs": len(checkpoint.history),
    "parameters": best.count_params(),
    "seconds": sum(row["seconds"] for row in checkpoint.history),
}
settings = {**vars(args), "output": str(output)}
with files.replaced(output / "metrics.json") as unfinished:
    unfinished.write_text(json.dumps({**settings, **results}, indent=1))
print()
for name, value in results.items():
    text = f"{value:.4f}" if isinstance(value, float) else value
    print(f"{name:>15}  {text}")
print(f"{'files':>15}  {output}: {', '.join(sorted(os.listdir(output)))}")
print(f"{'exported':>15}  {exported}: {', '.join(sorted(os.listdir(exported)))}")
