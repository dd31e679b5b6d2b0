"""Tunes the network of "Dynamic routing between capsules", trains and exports it.

    python examples/tune_capsnet.py --dataset digits --epochs 9

Hyperband trains many networks for a few epochs, and the best of them for more epochs.
To search on several machines, run the same command on each of them with a shared output
folder. The chief chooses the hyperparameters, and the workers train the networks:

    export KERASTUNER_ORACLE_IP=10.0.0.1 KERASTUNER_ORACLE_PORT=8000
    KERASTUNER_TUNER_ID=chief   python examples/tune_capsnet.py   # on 10.0.0.1
    KERASTUNER_TUNER_ID=worker1 python examples/tune_capsnet.py   # elsewhere

The output folder receives search.json, trials.png and, for the best hyperparameters,
the files that train_capsnet.py writes. The network is exported to saved_models/, with
TensorFlow also as a SavedModel. Ctrl-C stops the search at any time; --resume runs
unfinished trials again. The search waits for a lost worker: start it again with the
same KERASTUNER_TUNER_ID. Download a data set before several processes use it.
"""

import argparse
import importlib.util
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Imports can swallow KeyboardInterrupt. Until exit_cleanly, Ctrl-C ends the process.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import keras
import keras_tuner
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

PRECISIONS = ["float32", "mixed_bfloat16", "mixed_float16"]
ROUTINGS = {"dynamic": routing.DynamicRouting, "em": routing.EMRouting}
SHOWN = 10

callbacks.exit_cleanly("--resume goes on.")

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
add = parser.add_argument
add("--dataset", choices=["digits", "mnist"], default="digits")
add("--data-dir", help="folder of TensorFlow Datasets data")
add("--limit", type=int, default=-1, help="use only this many images of each split")
add("--variant", choices=models.CapsNet.variants, default="paper", help="other sizes")
add("--epochs", type=int, default=10, help="epochs of the longest trials")
add("--batch-size", type=int, default=64)
add("--precision", choices=PRECISIONS, default="float32")
add("--seed", type=int, default=0)
add("--output", type=Path, help="folder (default: runs/tune_capsnet_DATASET)")
add("--resume", action="store_true", help="continue the search in --output")
args = parser.parse_args()

# Without the environment variable a single process runs the whole search.
worker = "chief" not in os.environ.get("KERASTUNER_TUNER_ID", "chief")
output = args.output or Path(f"runs/tune_capsnet_{args.dataset}")
exported = Path("saved_models") / output.name
if output.name in models.Classifier.preset_names():
    parser.error(f"--output {output}: {exported} is a network of the package")
begun = (output / "search" / "oracle.json").exists() and not worker
try:
    trained = callbacks.Checkpoint.history_of(output)
except ValueError as error:
    parser.error(str(error))
if trained and not begun and not worker:
    parser.error(f"{output} holds another run: choose another --output")
if begun and not args.resume:
    parser.error(f"{output} holds a search: add --resume, or choose another --output")
# Trials of one search must be comparable.
settings = {
    name: getattr(args, name)
    for name in ("dataset", "limit", "variant", "epochs", "batch_size", "seed")
}
settings_file = output / "settings.json"
if begun:
    try:
        kept = dict(json.loads(settings_file.read_text()))
    except (TypeError, ValueError) as error:
        sys.exit(f"Can't resume: {settings_file} is damaged ({error}).")
    if kept != settings:
        before = {name: x for name, x in kept.items() if x != settings.get(name)}
        now = {name: settings.get(name) for name in before}
        sys.exit(f"Can't resume: {output} was made with {before}. Received: {now}")
if not worker:
    output.mkdir(parents=True, exist_ok=True)
    if not begun:
        settings_file.write_text(json.dumps(settings, indent=1))
    # The search can take days, so an unwritable folder is reported now. The
    # metrics.json of an earlier, shorter search would be wrong.
    exported.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=exported).close()
    (output / "metrics.json").unlink(missing_ok=True)
keras.config.set_dtype_policy(args.precision)
keras.utils.set_random_seed(args.seed)

# Data.
load = {"digits": datasets.digits, "mnist": lambda: datasets.mnist(args.data_dir)}
try:
    splits = load[args.dataset]()
except (OSError, ValueError) as error:
    sys.exit(str(error))
train, validation, test = (split.take(args.limit) for split in splits)
train = datasets.random_shift(train.shuffle(10_000, args.seed), 2, args.seed)
train = train.batch(args.batch_size).prefetch(2)
validation, test = (split.batch(args.batch_size) for split in (validation, test))
steps = args.epochs * len(train)


def values_of(hyperparameters):
    """Returns the values of the hyperparameters that are searched."""
    hp = hyperparameters
    return {
        "capsule_types": hp.Choice("capsule_types", [8, 16, 32]),
        "pose_size": hp.Choice("pose_size", [8, 16, 32]),
        "routing": hp.Choice("routing", list(ROUTINGS)),
        "iterations": hp.Int("iterations", 1, 4),
        "reconstruction_weight": hp.Float(
            "reconstruction_weight", 0.01, 1.0, sampling="log"
        ),
        "learning_rate": hp.Float("learning_rate", 3e-4, 1e-2, sampling="log"),
    }


def build(hyperparameters):
    """Builds and compiles a network with these hyperparameters."""
    values = values_of(hyperparameters)
    widths = {
        **models.CapsNet.variants[args.variant],
        "primary_capsules": values["capsule_types"],
        "primary_pose_shape": values["pose_size"] // 2,
        "class_pose_shape": values["pose_size"],
    }
    model = models.CapsNet(
        input_shape=tuple(train.element_spec[0].shape[1:]),
        classes=10,
        routing=ROUTINGS[values["routing"]](values["iterations"]),
        reconstruction_weight=values["reconstruction_weight"],
        **widths,
    )
    learning_rate = keras.optimizers.schedules.CosineDecay(
        values["learning_rate"], steps
    )
    # The moving average of the weights spans a twentieth of the steps.
    optimizer = keras.optimizers.Adam(
        learning_rate, use_ema=True, ema_momentum=1.0 - 20.0 / max(20, steps)
    )
    model.compile(optimizer, loss=losses.MarginLoss(), metrics=["accuracy"])
    return model


class Hyperband(keras_tuner.Hyperband):
    def pre_create_trial(self):
        # An idle worker would ask the chief for a trial again without a pause.
        time.sleep(0.2)


# The search.
tuner = Hyperband(
    build,
    objective=keras_tuner.Objective("val_accuracy", "max"),
    max_epochs=args.epochs,
    seed=args.seed,
    directory=output,
    project_name="search",
)
if begun:
    try:
        tuner.oracle.reload()  # Keras Tuner resumes only a search of the same tuner id
    except (KeyError, TypeError, ValueError) as error:
        sys.exit(f"Can't resume: {output}/search is damaged ({error}).")
tuner.search(
    train,
    validation_data=validation,
    callbacks=[keras.callbacks.SwapEMAWeights(swap_on_epoch=True)],
)
if worker:
    sys.exit()

trials = [
    {
        **values_of(trial.hyperparameters),
        "epochs": trial.hyperparameters.values["tuner/epochs"],
        "val_accuracy": trial.score,
    }
    for trial in tuner.oracle.get_best_trials(len(tuner.oracle.trials))
    if trial.status == "COMPLETED"
]
(output / "search.json").write_text(json.dumps(trials, indent=1))
plotting.trials(trials).savefig(output / "trials.png")
print(f"\n{len(trials)} trials, the best of them:")
print("".join(f"{name:>{len(name) + 2}}" for name in trials[0]))
for trial in trials[:SHOWN]:
    cells = (f"{x:.4f}" if isinstance(x, float) else x for x in trial.values())
    print(
        "".join(f"{x:>{len(name) + 2}}" for name, x in zip(trial, cells, strict=True))
    )

# The best network, trained from the start.
print("\nThe best network")
winner = tuner.get_best_hyperparameters()[0]
model = build(winner)
model.summary()
checkpoint = callbacks.Checkpoint(output, monitor="val_accuracy", mode="max")
try:
    checkpoint.restore(model)
    model.fit(
        train,
        validation_data=validation,
        initial_epoch=len(checkpoint.history),
        epochs=args.epochs,
        callbacks=[keras.callbacks.SwapEMAWeights(), checkpoint],
    )
except ValueError as error:
    sys.exit(str(error))

# Results of the best epoch.
print("Test images:")
best = keras.saving.load_model(output / "best.keras")
accuracy = best.evaluate(test, return_dict=True)["accuracy"]
images, labels = (np.asarray(part) for part in next(iter(test.rebatch(10))))
plotting.curves(checkpoint.history).savefig(output / "curves.png")
plotting.reconstructions(best, images, labels).savefig(output / "reconstructions.png")
plotting.pose_tweaks(best, images[0]).savefig(output / "pose_tweaks.png")

# Export, without the optimizer.
best = keras.saving.load_model(output / "best.keras", compile=False)
with files.replaced(exported / "model.keras") as unfinished:
    best.save(unfinished)
if keras.backend.backend() == "tensorflow":
    warm_up = importlib.util.find_spec("tensorflow_serving") is not None
    export.export_saved_model(best, exported, overwrite=True, warm_up=warm_up)

results = {
    **values_of(winner),
    "test_accuracy": accuracy,
    "test_error": 1.0 - accuracy,
    "epochs": len(checkpoint.history),
    "parameters": best.count_params(),
}
with files.replaced(output / "metrics.json") as unfinished:
    unfinished.write_text(json.dumps({**settings, **results}, indent=1))
print()
for name, value in results.items():
    text = f"{value:.4f}" if isinstance(value, float) else value
    print(f"{name:>21}  {text}")
print(f"{'files':>21}  {output}: {', '.join(sorted(os.listdir(output)))}")
print(f"{'exported':>21}  {exported}: {', '.join(sorted(os.listdir(exported)))}")
