"""Trains a capsule network on your own images and reports what it has learned.

    python examples/train_own_images.py FOLDER
    python examples/train_own_images.py FOLDER --size 128 --epochs 60 --no-mirror

FOLDER contains one subfolder for each class, with at least three images each: PNG,
JPEG, WebP, GIF, BMP or TIFF files of any size. Images are scaled and cropped to the
central square. 15 % of each class, but at least one image, is used for validation, to
choose the best epoch, and as much for testing. Unreadable files are listed and skipped.

The output folder receives the best model, classes.json, metrics.json, history.csv, a
model card and figures: learning curves, the confusion matrix, ROC curves, the most
confident mistakes, and maps that show where in an image the votes for the predicted
class come from. The network is exported to saved_models/, with TensorFlow also as a
SavedModel. predict_images.py classifies other images with it.

Ctrl-C stops the training at any time; --resume continues it after the last finished
epoch.
"""

import argparse
import importlib.util
import json
import os
import shlex
import signal
import sys
import tempfile
from hashlib import sha256
from pathlib import Path
from textwrap import fill

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Imports can swallow KeyboardInterrupt. Until exit_cleanly, Ctrl-C ends the process.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import keras
import numpy as np
from matplotlib.figure import Figure
from sklearn import metrics as measures
from sklearn.utils.class_weight import compute_class_weight

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

# Images in a figure. A small folder is repeated within an epoch, up to EPOCH images.
SHOWN, EPOCH = 8, 500

callbacks.exit_cleanly("--resume goes on from the last finished epoch.")


def at_least(minimum):
    """Returns the argparse type of an integer flag of at least `minimum`."""

    def integer(text):
        if int(text) < minimum:
            raise argparse.ArgumentTypeError(f"expected at least {minimum}: {text}")
        return int(text)

    return integer


parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
add = parser.add_argument
add("folder", type=Path, help="one subfolder of images for each class")
add(
    "--size",
    type=at_least(8),
    default=64,
    help="height and width of the images, in pixels (default: 64)",
)
add(
    "--routing",
    choices=routing.names(),
    default="self_attention",
    help="default: self_attention",
)
add(
    "--width",
    type=at_least(1),
    default=32,
    help="channels of the first stage of the backbone (default: 32)",
)
add("--decoder", action="store_true", help="train a decoder to reconstruct the images")
add(
    "--no-mirror",
    action="store_true",
    help="do not mirror training images; for images of text, for example",
)
add(
    "--epochs",
    type=at_least(1),
    default=40,
    help="a small folder is repeated within an epoch, up to 500 images (default: 40)",
)
add("--batch-size", type=at_least(1), default=16, help="default: 16")
add("--seed", type=at_least(0), default=0, help="default: 0")
add("--output", type=Path, help="default: runs/NAME of the folder")
add("--resume", action="store_true", help="continue the run in --output")
args = parser.parse_args()
sys.stdout.reconfigure(errors="backslashreplace")  # for names that are not UTF-8

output = args.output or Path("runs") / args.folder.resolve().name
exported = Path("saved_models") / output.resolve().name
if exported.name in models.Classifier.preset_names():
    parser.error(f"--output {output}: {exported} is a network of the package")
if args.folder.resolve() in (output.resolve(), *output.resolve().parents):
    parser.error(f"--output {output} lies within {args.folder}: it would be a class")
try:
    finished = len(callbacks.Checkpoint.history_of(output))
except ValueError as error:
    parser.error(str(error))
if finished and not args.resume:
    parser.error(f"{output} holds a run: add --resume, or choose another --output")
settings_file = output / "settings.json"
if output.exists() and any(output.iterdir()) and not settings_file.exists():
    parser.error(f"{output} holds other files: choose another --output")

# Data.
try:
    images = datasets.image_folder(args.folder, args.size)
except ValueError as error:
    sys.exit(str(error))
for path, reason in images.unreadable.items():
    print(f"left out: {path} ({reason})")
names = images.class_names
if any(os.fsencode(name).decode(errors="replace") != name for name in names):
    sys.exit(f"The names of the classes must be UTF-8. Received: {names!a}")
# A resumed run must have the same settings and files.
settings = {
    name: getattr(args, name) for name in ("size", "routing", "width", "decoder")
}
settings["classes"] = list(names)
paths = [path.relative_to(args.folder) for path in datasets.image_files(args.folder)]
settings["files"] = sha256(str(paths).encode()).hexdigest()
if finished:
    kept = json.loads(settings_file.read_text())
    changed = {name: x for name, x in kept.items() if x != settings.get(name)}
    if changed.pop("files", None) and not changed:
        sys.exit(f"Can't resume: {args.folder} no longer has the files of {output}.")
    if changed:
        now = {name: settings.get(name) for name in changed}
        sys.exit(f"Can't resume: {output} was made with {changed}. Received: {now}")
labels = np.array([label for _, label in images.train.as_numpy_iterator()])
print(
    f"{len(labels)} images to train, {len(images.validation)} to validate, "
    f"{len(images.test)} to test"
)
for label, name in enumerate(names):
    print(f"{np.sum(labels == label):8} {name}")
# A resumed run must not see the images in the order of its first epoch again.
seed = args.seed + finished
keras.utils.set_random_seed(seed)

# Random augmentation. With one seed for all layers their random numbers would be
# correlated.
seeds = [4 * seed + index for index in range(4)]
changes = [
    keras.layers.RandomTranslation(0.1, 0.1, fill_mode="reflect", seed=seeds[0]),
    keras.layers.RandomRotation(0.05, fill_mode="reflect", seed=seeds[1]),
    keras.layers.RandomZoom(0.1, fill_mode="reflect", seed=seeds[2]),
]
if not args.no_mirror:
    changes.append(keras.layers.RandomFlip("horizontal", seed=seeds[3]))


def augmented(batch, labels):
    for change in changes:
        batch = change(batch, training=True)
    return batch, labels


repeated = images.train.repeat(max(1, EPOCH // len(labels)))
train = repeated.shuffle(10_000, seed).batch(args.batch_size)
train = train.map(augmented).prefetch(2)
validation, test = (
    split.batch(args.batch_size) for split in (images.validation, images.test)
)
# Class weights let rare classes count as much as frequent ones.
weights = compute_class_weight("balanced", classes=np.arange(len(names)), y=labels)

# Model. It includes the scaling of the pixels.
image_shape = (args.size, args.size, 3)
model = models.CapsuleClassifier(
    image_shape,
    classes=len(names),
    backbone=models.residual_backbone(image_shape, args.width),
    preprocess=keras.layers.Rescaling(1 / 255),
    routing=args.routing,
    decoder_units=(256, 512) if args.decoder else None,
)
model.summary()

# Training. The learning rate warms up and then decays to zero.
steps = args.epochs * len(train)
warm_up = steps // 10
optimizer = keras.optimizers.AdamW(
    keras.optimizers.schedules.CosineDecay(
        0.0, steps - warm_up, warmup_target=0.001, warmup_steps=warm_up
    ),
    weight_decay=0.01,
)
model.compile(optimizer, loss=losses.MarginLoss(), metrics=["accuracy"])

checkpoint = callbacks.Checkpoint(output)
try:
    checkpoint.restore(model)
except ValueError as error:
    sys.exit(f"Can't resume: {error}")
if finished:
    print(f"Going on after epoch {finished}.")
# The training can take long, so an unwritable folder is reported now. The results of an
# earlier, shorter training would be wrong.
exported.mkdir(parents=True, exist_ok=True)
tempfile.TemporaryFile(dir=exported).close()
output.mkdir(parents=True, exist_ok=True)
for name in ("metrics.json", "mistakes.png"):
    (output / name).unlink(missing_ok=True)
with files.replaced(output / "classes.json") as unfinished:
    unfinished.write_text(json.dumps(names))
with files.replaced(settings_file) as unfinished:
    unfinished.write_text(json.dumps(settings, indent=1))
try:
    model.fit(
        train,
        validation_data=validation,
        initial_epoch=finished,
        epochs=args.epochs,
        class_weight=dict(enumerate(weights)),
        callbacks=[checkpoint],
    )
except ValueError as error:
    sys.exit(str(error))

# Results of the best epoch.
best = keras.saving.load_model(output / "best.keras", compile=False)
scores = best.predict(test, verbose=0)["scores"]
photographs, truth = map(np.stack, zip(*images.test.as_numpy_iterator(), strict=True))
predicted = scores.argmax(-1)
report = measures.classification_report(
    truth, predicted, labels=range(len(names)), target_names=names, zero_division=0.0
)
print(f"\nTest images:\n{report}")


# Matplotlib would read text between two $ as a formula.
shown_names = [fill(name, 14).replace("$", r"\$") for name in names]


def chart():
    """Creates an empty figure whose size grows with the number of classes."""
    side = 3.5 + 0.35 * len(names)
    figure = Figure(figsize=(side + 1.0, side), layout="constrained", dpi=120)
    return figure, figure.subplots()


# Figures.
figure, axis = chart()
measures.ConfusionMatrixDisplay.from_predictions(
    truth,
    predicted,
    labels=range(len(names)),
    display_labels=shown_names,
    xticks_rotation="vertical" if len(names) > 4 else "horizontal",
    cmap="Blues",
    colorbar=False,
    ax=axis,
)
axis.set_title("test images")
figure.savefig(output / "confusion.png")

figure, axis = chart()
for label, name in enumerate(shown_names):
    measures.RocCurveDisplay.from_predictions(
        truth == label, scores[:, label], name=name, ax=axis
    )
axis.set(
    title="each class against all others",
    xlabel="false positive rate",
    ylabel="true positive rate",
)
figure.savefig(output / "roc.png")

plotting.curves(checkpoint.history).savefig(output / "curves.png")
shown = np.random.default_rng(0).permutation(len(photographs))[:SHOWN]
plotting.credit_maps(best, photographs[shown], names, truth[shown]).savefig(
    output / "credit.png"
)
if args.decoder:
    plotting.reconstructions(
        best, photographs[shown], truth[shown], class_names=names
    ).savefig(output / "reconstructions.png")

confidence = scores.max(-1)
wrong = np.flatnonzero(predicted != truth)
wrong = wrong[np.argsort(-confidence[wrong])][:SHOWN]
if len(wrong):
    mistakes = plotting.credit_maps(best, photographs[wrong], names, truth[wrong])
    mistakes.savefig(output / "mistakes.png")
    print("The most confident mistakes:")
    for index in wrong:
        print(
            f"  {images.test_files[index]}: {names[truth[index]]}, "
            f"classified as {names[predicted[index]]} {confidence[index]:.2f}"
        )

# Export, without the optimizer.
with files.replaced(exported / "model.keras") as unfinished:
    best.save(unfinished)
with files.replaced(exported / "classes.json") as unfinished:
    unfinished.write_text(json.dumps(names))
if keras.backend.backend() == "tensorflow":
    warm_up = importlib.util.find_spec("tensorflow_serving") is not None
    export.export_saved_model(best, exported, overwrite=True, warm_up=warm_up)

results = {
    "test_accuracy": float(np.mean(predicted == truth)),
    "epochs": len(checkpoint.history),
    "best_epoch": checkpoint.best_epoch["epoch"],
    "parameters": best.count_params(),
    "seconds": sum(row["seconds"] for row in checkpoint.history),
}
counts = {name: int(np.sum(labels == label)) for label, name in enumerate(names)}
card = {
    "images": f"RGB values from 0 to 255, cropped to {args.size}×{args.size} pixels",
    "scores": "one for each class, from 0 to 1; they need not sum to 1",
    "classes": ", ".join(names),
    "network": f"{best.count_params():,} parameters, routing {args.routing}",
    "training images": ", ".join(f"{count} {name}" for name, count in counts.items()),
    "validation images": len(images.validation),
    "test images": len(images.test),
    "accuracy": f"{100.0 * results['test_accuracy']:.1f} % of the test images",
    "epochs": f"{results['epochs']}; the network is from epoch "
    f"{results['best_epoch']}, which has the smallest validation loss",
    "command": f"`python examples/train_own_images.py {shlex.join(sys.argv[1:])}`",
    "made with": f"Keras {keras.version()}, {keras.backend.backend()}",
}
lines = [f"# {exported.name}", "", "| | |", "| --- | --- |"]
for name, value in card.items():
    lines.append(f"| {name} | {str(value).replace('|', '/')} |")
lines += ["", "```", report, "```", ""]
for folder in (output, exported):
    with files.replaced(folder / "README.md") as unfinished:
        unfinished.write_text("\n".join(lines), errors="backslashreplace")
flags = {**vars(args), "folder": str(args.folder), "output": str(output)}
with files.replaced(output / "metrics.json") as unfinished:
    unfinished.write_text(json.dumps({**flags, **results, "images": counts}, indent=1))
print()
for name, value in results.items():
    text = f"{value:.4f}" if isinstance(value, float) else value
    print(f"{name:>15}  {text}")
print(f"{'files':>15}  {output}: {', '.join(sorted(os.listdir(output)))}")
print(f"{'exported':>15}  {exported}: {', '.join(sorted(os.listdir(exported)))}")
