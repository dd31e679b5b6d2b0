"""Compares the adversarial robustness of a capsule network and a CNN.

    python examples/adversarial_robustness.py --dataset digits \\
        --capsules runs/capsnet_digits/best.keras --cnn runs/cnn_digits/best.keras
    python examples/adversarial_robustness.py --dataset toys \\
        --capsules runs/matrix_capsnet_toys/best.keras --cnn runs/cnn_toys/best.keras

Both networks are attacked on the same test images. The script prints the accuracy under
FGSM and BIM for each epsilon; the output folder receives metrics.json and a figure.

By default the attacks increase the cross-entropy of the scores. The training loss of a
capsule network, and with it its gradient, is zero for an image that the network
classifies with the full margin. An attack on the training loss cannot change such an
image, which would overestimate the robustness of the network.
"""

import argparse
import functools
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

from keras_capsules import callbacks, datasets, plotting, robustness

LOADERS = {
    "digits": lambda data_dir: datasets.digits(),
    "mnist": datasets.mnist,
    "toys": lambda data_dir: datasets.toys("small", data_dir),
    "toys/full": lambda data_dir: datasets.toys("full", data_dir),
    "smallnorb": datasets.smallnorb,
}

callbacks.exit_cleanly()

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--capsules", type=Path, required=True, help="a .keras file")
parser.add_argument("--cnn", type=Path, required=True, help="a .keras file")
parser.add_argument("--dataset", choices=LOADERS, default="digits")
parser.add_argument("--data-dir", help="folder of TensorFlow Datasets data")
parser.add_argument("--images", type=int, default=500, help="test images to attack")
parser.add_argument("--batch-size", type=int, default=100)
parser.add_argument(
    "--epsilons",
    type=float,
    nargs="+",
    default=[0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3],
    help="largest change of a pixel; pixels of digits lie between 0 and 1, those of "
    "toys have a standard deviation of 1",
)
parser.add_argument("--steps", type=int, default=10, help="number of steps of BIM")
parser.add_argument(
    "--loss",
    choices=["cross_entropy", "training"],
    default="cross_entropy",
    help="the loss that an attack increases",
)
parser.add_argument("--output", type=Path, help="default: runs/robustness_DATASET")
args = parser.parse_args()
output = args.output or Path(f"runs/robustness_{args.dataset.replace('/', '_')}")

# Pixels of digits are clipped to 0 and 1; those of standardised images have no bounds.
clip = (0.0, 1.0) if args.dataset in ("digits", "mnist") else None
try:
    test = LOADERS[args.dataset](args.data_dir).test.take(args.images)
    output.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=output).close()
except (OSError, ValueError) as error:
    sys.exit(str(error))
networks = {}
for name, path in (("capsules", args.capsules), ("cnn", args.cnn)):
    try:
        networks[name] = keras.saving.load_model(path)
    except Exception as error:  # damaged files raise many types of errors
        sys.exit(f"{path} can't be loaded ({type(error).__name__}: {error})")

# Attacks.
loss = robustness.cross_entropy if args.loss == "cross_entropy" else None
attacks = {
    "FGSM": functools.partial(robustness.fgsm, loss=loss, clip=clip),
    "BIM": functools.partial(robustness.bim, steps=args.steps, loss=loss, clip=clip),
}
results = {}
for name, attack in attacks.items():
    print(name)
    try:
        results[name] = robustness.accuracy_under_attack(
            networks, test.batch(args.batch_size), attack, args.epsilons, verbose=1
        )
    except ValueError as error:
        sys.exit(str(error))

# Results.
print(f"\n{'attack':8}{'epsilon':>8}" + "".join(f"{name:>10}" for name in networks))
for name, rows in results.items():
    for epsilon in args.epsilons:
        accuracies = [row["accuracy"] for row in rows if row["epsilon"] == epsilon]
        cells = "".join(f"{accuracy:>10.3f}" for accuracy in accuracies)
        print(f"{name:8}{epsilon:>8.3f}{cells}")
settings = {"dataset": args.dataset, "images": len(test), "loss": args.loss}
settings |= {"capsules": str(args.capsules), "cnn": str(args.cnn), "steps": args.steps}
plotting.attack_curves(results).savefig(output / "attacks.png")
metrics = {**settings, "accuracy": results}
(output / "metrics.json").write_text(json.dumps(metrics, indent=1))
print(f"\nfiles: {output}/metrics.json, {output}/attacks.png")
