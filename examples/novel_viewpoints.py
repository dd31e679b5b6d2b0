"""Tests capsules and a CNN from viewpoints that they were not trained on.

    python examples/novel_viewpoints.py --dataset toys --epochs 30
    python examples/novel_viewpoints.py --dataset smallnorb --config paper

Both networks are trained on a third of the viewpoints and tested on the rest, with
toys that neither has seen. As in the paper they are compared where they are equally
good on familiar viewpoints: the CNN at the epoch that is best on the validation set,
the capsules at the epoch whose error on a sample of the familiar test images is
nearest to the CNN's. So these test images choose an epoch, and the capsules' error on
them says only how well they match. Those from novel viewpoints choose nothing.

The output folder gets metrics.json, a figure, and a folder for each training with the
model that is compared, best.keras. Stop it whenever you like: --resume, with the same
--epochs, goes on after the last finished epoch.
"""

import json
from pathlib import Path

import keras
from networks import baseline_cnn, matrix_capsnet
from runs import TOYS, Run, arguments, positive

from keras_capsules import datasets, plotting

# Errors on smallNORB that the paper reports, in per cent.
PAPER = {
    "azimuth": {
        "novel_error": {"cnn": 20.0, "capsules": 13.5},
        "familiar_error": {"cnn": 3.7, "capsules": 3.7},
    },
    "elevation": {
        "novel_error": {"cnn": 17.8, "capsules": 12.3},
        "familiar_error": {"cnn": 4.3, "capsules": 4.3},
    },
}


# So many test images of each kind say where an epoch stands; all of them are tested
# with the networks that are compared.
SAMPLE = 2_000


def test_errors(model, familiar, novel):
    """Errors of a network on test images from familiar and from novel viewpoints."""
    tests = {"familiar_error": familiar, "novel_error": novel}
    return {
        name: 1.0 - model.evaluate(batches, verbose=0, return_dict=True)["accuracy"]
        for name, batches in tests.items()
    }


class ViewpointErrors(keras.callbacks.Callback):
    """Adds the errors on a sample of the test images to the logs of an epoch.

    Args:
        tests: batches of test images from familiar and from novel viewpoints.
        match: the familiar error to be matched; the logs get the distance from it,
            `mismatch`.
    """

    def __init__(self, tests, match=None):
        super().__init__()
        self.tests = [batches.take(-(-SAMPLE // args.batch_size)) for batches in tests]
        self.match = match

    def on_epoch_end(self, epoch, logs):
        logs |= test_errors(self.model, *self.tests)
        if self.match is not None:
            logs["mismatch"] = abs(logs["familiar_error"] - self.match)


parser = arguments(__doc__, "novel_viewpoints", TOYS)
parser.add_argument("--novel", choices=["azimuth", "elevation", "both"], default="both")
parser.add_argument("--config", choices=["paper", "small"], default="small")
parser.add_argument("--iterations", type=positive, default=3, help="routing iterations")
args = parser.parse_args()


def batches(run, novel):
    """Batches to train on, to validate, and to test familiar and novel viewpoints."""
    name = "toys/small" if args.dataset == "toys" else args.dataset
    return run.batches(
        lambda: datasets.viewpoint_split(name, novel, args.data_dir, seed=run.seed)
    )


# With the number of epochs: the capsules match a CNN that is trained to its end.
names = ("dataset", "config", "iterations", "epochs", "limit", "batch_size", "seed")
settings = {name: getattr(args, name) for name in names}
name = f"novel_viewpoints_{args.dataset.replace('/', '_')}"
output = args.output or Path("runs") / name
keras.config.set_dtype_policy(args.precision)

metrics, epochs = {}, {}
for novel in list(PAPER) if args.novel == "both" else [args.novel]:
    print(f"\nCNN, novel {novel}")
    cnn = Run(output / novel / "cnn", settings, args.resume)
    train, validation, *tests = batches(cnn, novel)
    image_shape = tuple(train.element_spec[0].shape[1:])
    steps = args.epochs * len(train)
    model = baseline_cnn(image_shape, 5, steps)
    cnn.fit(model, train, validation, args.epochs, [ViewpointErrors(tests)])
    best = min(cnn.history, key=lambda epoch: epoch["val_loss"])

    print(f"\nCapsules, novel {novel}")
    capsules = Run(output / novel / "capsules", settings, args.resume)
    train, validation, *tests = batches(capsules, novel)
    model, margin = matrix_capsnet(image_shape, 5, args.config, args.iterations, steps)
    errors = ViewpointErrors(tests, match=best["familiar_error"])
    others = [margin, errors]
    capsules.fit(model, train, validation, args.epochs, others, monitor="mismatch")
    match = min(capsules.history, key=lambda epoch: epoch["mismatch"])

    compared = {"cnn": (cnn, best), "capsules": (capsules, match)}
    metrics[novel] = {}
    for name, (run, epoch) in compared.items():
        model = run.best()
        epoch |= test_errors(model, *tests)
        metrics[novel][name] = run.summary(model, epoch)
    epochs[novel] = [
        {"model": name, **epoch, "compared": epoch is chosen}
        for name, (run, chosen) in compared.items()
        for epoch in run.history
    ]

# Results, as the paper's table 2.
(output / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
plotting.viewpoint_errors(epochs).savefig(output / "viewpoints.png")
print(f"\ntest error in %: {args.dataset}, and smallNORB in the paper")
print(f"{'viewpoints':22}{'CNN':>10}{'paper':>8}{'capsules':>12}{'paper':>8}")
for novel, networks in metrics.items():
    for error, paper in PAPER[novel].items():
        cnn, capsules = (100.0 * networks[name][error] for name in paper)
        print(
            f"{novel + ', ' + error.removesuffix('_error'):22}"
            f"{cnn:10.1f}{paper['cnn']:8.1f}{capsules:12.1f}{paper['capsules']:8.1f}"
        )
print(f"\nfiles: {output}/metrics.json, {output}/viewpoints.png")
