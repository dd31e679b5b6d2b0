"""Trains the network of "Dynamic routing between capsules" and exports it.

    python examples/train_capsnet.py --dataset digits --batch-size 16
    python examples/train_capsnet.py --dataset mnist --precision mixed_bfloat16
    python examples/train_capsnet.py --dataset mnist --variant small --epochs 30

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
    metrics,
    models,
    plotting,
    routing,
)

PRECISIONS = ["float32", "mixed_bfloat16", "mixed_float16"]

callbacks.exit_cleanly("--resume goes on from the last finished epoch.")

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
add = parser.add_argument
add("--dataset", choices=["digits", "mnist", "multi_mnist"], default="digits")
add("--data-dir", help="folder of TensorFlow Datasets data")
add("--limit", type=int, default=-1, help="use only this many images of each split")
add("--variant", choices=models.CapsNet.variants, default="paper", help="layer sizes")
add("--iterations", type=int, default=3, help="routing iterations")
add("--epochs", type=int, default=10)
add("--batch-size", type=int, default=64)
add("--precision", choices=PRECISIONS, default="float32")
add("--on-device", action="store_true", help="keep the images in GPU memory")
add("--seed", type=int, default=0)
add("--output", type=Path, help="output folder (default: runs/capsnet_DATASET)")
add("--resume", action="store_true", help="continue the run in --output")
args = parser.parse_args()

output = args.output or Path(f"runs/capsnet_{args.dataset}")
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

# Data. Images of one digit are shifted at random by up to two pixels.
load = {
    "digits": datasets.digits,
    "mnist": lambda: datasets.mnist(args.data_dir),
    "multi_mnist": lambda: datasets.multi_mnist(args.data_dir, seed, own_images=True),
}
try:
    splits = load[args.dataset]()
except (OSError, ValueError) as error:
    sys.exit(str(error))
train, validation, test = (split.take(args.limit) for split in splits)
image_shape = tuple(train.element_spec[0].shape)
objects = 2 if args.dataset == "multi_mnist" else 1
if args.on_device:
    try:
        if objects == 2:
            digits = datasets.mnist(args.data_dir).train.take(args.limit)
            train = datasets.OverlaidImages(
                digits, args.batch_size, classes=10, own_images=True, seed=seed
            )
        else:
            train = datasets.ShiftedImages(train, args.batch_size, seed=seed)
    except ValueError as error:
        sys.exit(str(error))
else:
    train = train.shuffle(10_000, seed)
    if objects == 1:
        train = datasets.random_shift(train, 2, seed)
    train = train.batch(args.batch_size).prefetch(2)
validation, test = (split.batch(args.batch_size) for split in (validation, test))

# Model.
model = models.CapsNet(
    input_shape=image_shape,
    classes=10,
    objects=objects,
    routing=routing.DynamicRouting(args.iterations),
    **models.CapsNet.variants[args.variant],
)
model.summary()

# Training. The learning rate decays to zero. The moving average of the weights spans a
# twentieth of the steps.
steps = args.epochs * len(train)
optimizer = keras.optimizers.Adam(
    keras.optimizers.schedules.CosineDecay(0.001, steps),
    use_ema=True,
    ema_momentum=1.0 - 20.0 / max(20, steps),
)
accuracy = metrics.ExactMatch(name="accuracy") if objects == 2 else "accuracy"
model.compile(optimizer, loss=losses.MarginLoss(), metrics=[accuracy])

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
images, labels = keras.tree.map_structure(np.asarray, next(iter(test.rebatch(10))))
draw = plotting.objects_apart if objects == 2 else plotting.reconstructions
plotting.curves(checkpoint.history).savefig(output / "curves.png")
draw(best, images, labels).savefig(output / "reconstructions.png")
plotting.pose_tweaks(best, images[0]).savefig(output / "pose_tweaks.png")

# Export, without the optimizer.
best = keras.saving.load_model(output / "best.keras", compile=False)
with files.replaced(exported / "model.keras") as unfinished:
    best.save(unfinished)
if keras.backend.backend() == "tensorflow":
    warm_up = importlib.util.find_spec("tensorflow_serving") is not None
    export.export_saved_model(best, exported, overwrite=True, warm_up=warm_up)

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
