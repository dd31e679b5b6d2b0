"""Trains the baseline CNN that capsules are compared with, and exports it.

    python examples/train_baseline_cnn.py --dataset digits
    python examples/train_baseline_cnn.py --dataset toys --epochs 30

The test images of toys show other toys than the training images. The output folder
receives metrics.json, history.csv, a figure and the best model. The network is exported
to saved_models/, with TensorFlow also as a SavedModel. Ctrl-C stops the training at any
time; --resume continues it after the last finished epoch.
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

from keras_capsules import callbacks, datasets, export, files, models, plotting

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
add("--epochs", type=int, default=10)
add("--batch-size", type=int, default=64)
add("--precision", choices=PRECISIONS, default="float32")
add("--seed", type=int, default=0)
add("--output", type=Path, help="output folder (default: runs/cnn_DATASET)")
add("--resume", action="store_true", help="continue the run in --output")
args = parser.parse_args()

output = args.output or Path(f"runs/cnn_{args.dataset.replace('/', '_')}")
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
train = train.shuffle(10_000, seed)
if args.dataset not in TOYS:
    train = datasets.random_shift(train, 2, seed)
train = train.batch(args.batch_size).prefetch(2)
validation, test = (split.batch(args.batch_size) for split in (validation, test))

# Model.
model = models.BaselineCNN(
    input_shape=tuple(train.element_spec[0].shape[1:]),
    classes=5 if args.dataset in TOYS else 10,
)
model.summary()

# Training. The moving average of the weights spans a twentieth of the steps.
steps = args.epochs * len(train)
optimizer = keras.optimizers.Adam(
    keras.optimizers.schedules.CosineDecay(0.001, steps, alpha=0.01),
    use_ema=True,
    ema_momentum=1.0 - 20.0 / max(20, steps),
)
model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])

checkpoint = callbacks.Checkpoint(output)
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
        callbacks=[keras.callbacks.SwapEMAWeights(), checkpoint],
    )
except ValueError as error:
    sys.exit(str(error))

# Results of the best epoch.
print("Test images:")
best = keras.saving.load_model(output / "best.keras")
accuracy = best.evaluate(test, return_dict=True)["accuracy"]
plotting.curves(checkpoint.history).savefig(output / "curves.png")

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
