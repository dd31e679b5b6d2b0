"""Searches for the best network of the first paper's kind, trains and exports it.

    python examples/tune_capsnet.py --dataset digits --epochs 9

Hyperband trains many networks for an epoch or so, the best of them for more, and the
very best for all epochs. On many machines the same command runs everywhere; a chief
says what to try, workers try it, and all share the output folder:

    export KERASTUNER_ORACLE_IP=10.0.0.1 KERASTUNER_ORACLE_PORT=8000
    KERASTUNER_TUNER_ID=chief   python examples/tune_capsnet.py   # on 10.0.0.1
    KERASTUNER_TUNER_ID=worker1 python examples/tune_capsnet.py   # elsewhere

The output folder gets search.json, trials.png and, of the winner, what
train_capsnet.py writes; saved_models/ gets a SavedModel. Stop it whenever you like:
--resume goes on with the trials that were under way. A worker that is lost is waited
for: start it again under its name. Have a data set downloaded before many processes ask
for it.
"""

import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import keras_tuner
import numpy as np
from networks import capsnet
from runs import DIGITS, Run, arguments, folder_of, load, settings_of, write_json

from keras_capsules import plotting, routing

ROUTINGS = {"dynamic": routing.DynamicRouting, "em": routing.EMRouting}
SHOWN = 10


class Hyperband(keras_tuner.Hyperband):
    def pre_create_trial(self):
        # A worker that finds nothing to do asks again without a pause.
        time.sleep(0.2)


def values_of(hyperparameters):
    """What the search decides: a value for each setting."""
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
    """The network with these settings, compiled."""
    values = values_of(hyperparameters)
    return capsnet(
        image_shape,
        10,
        steps=args.epochs * len(train),
        learning_rate=values["learning_rate"],
        primary_capsules=values["capsule_types"],
        primary_pose_shape=values["pose_size"] // 2,
        class_pose_shape=values["pose_size"],
        routing=ROUTINGS[values["routing"]](values["iterations"]),
        reconstruction_weight=values["reconstruction_weight"],
    )


args = arguments(__doc__, "tune_capsnet", DIGITS).parse_args()
name = os.environ.get("KERASTUNER_TUNER_ID", "chief")
worker = "chief" not in name

output = folder_of(args, "tune_capsnet")
begun = (output / "search" / "oracle.json").exists()
if begun and not (args.resume or worker):
    print(
        f"{output} holds a search: add --resume, or choose another --output",
        file=sys.stderr,
    )
    sys.exit(2)
run = Run(output, settings_of(args, "epochs"), args.resume or worker)
keras.config.set_dtype_policy(args.precision)
train, validation, test = run.batches(
    lambda: load(args.dataset, args.data_dir, run.seed)
)
image_shape = tuple(train.element_spec[0].shape[1:])

# The search.
tuner = Hyperband(
    build,
    objective=keras_tuner.Objective("val_accuracy", "max"),
    max_epochs=args.epochs,
    seed=args.seed,
    directory=output,
    project_name="search",
)
if begun and not worker:
    tuner.oracle.reload()  # Keras Tuner looks for a search of the same tuner's only
try:
    tuner.search(
        train,
        validation_data=validation,
        callbacks=[keras.callbacks.SwapEMAWeights(swap_on_epoch=True)],
        shuffle=False,
    )
except KeyboardInterrupt:
    sys.exit("\nStopped: --resume goes on with the search.")
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
write_json(output / "search.json", trials)
plotting.trials(trials).savefig(output / "trials.png")
print(f"\n{len(trials)} trials, the best of them:")
print("".join(f"{name:>{len(name) + 2}}" for name in trials[0]))
for trial in trials[:SHOWN]:
    cells = (f"{x:.4f}" if isinstance(x, float) else x for x in trial.values())
    print(
        "".join(f"{x:>{len(name) + 2}}" for name, x in zip(trial, cells, strict=True))
    )

# The winner, trained from the start.
print("\nThe winner")
best = tuner.get_best_hyperparameters()[0]
run.fit(build(best), train, validation, args.epochs, monitor="val_accuracy", mode="max")
model, results = run.test(test)
examples, labels = (np.asarray(part) for part in next(iter(test.rebatch(10))))
pictures = {
    "reconstructions": plotting.reconstructions(model, examples, labels),
    "pose_tweaks": plotting.pose_tweaks(model, examples[0]),
}
run.report(model, {**values_of(best), **results}, pictures)
