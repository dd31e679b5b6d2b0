"""Tests capsules and a CNN on digits that are rotated, sheared and scaled.

    python -m experiments.affine_robustness --precision mixed_bfloat16

Both networks are trained on MNIST digits that lie at random on a black canvas, never
changed otherwise. As in the paper they are compared on changed digits where they are
equally good on unchanged ones; matching.py says how. A CNN that is trained as long is
better on those: with fewer --cnn-epochs both can be equally good.

The output folder gets metrics.json, a figure, and a folder for each training with the
model that is compared, best.keras. Stop it whenever you like: --resume, with the same
--epochs and --cnn-epochs, goes on after the last finished epoch.
"""

import keras

from experiments.matching import compare, epochs, report
from experiments.networks import baseline_cnn, capsnet
from experiments.runs import (
    add_flags,
    folder_of,
    parser_of,
    positive,
    settings_of,
    write_json,
)
from keras_capsules import callbacks, datasets, models, plotting, routing

callbacks.exit_cleanly("--resume goes on from the last finished epoch.")

parser = parser_of(__doc__)
add_flags(parser, "affine_robustness", ["aff_mnist"])
parser.add_argument("--variant", choices=models.CapsNet.variants, default="small")
parser.add_argument("--iterations", type=positive, default=3, help="routing iterations")
parser.add_argument("--cnn-epochs", type=positive, help="default: as many as --epochs")
args = parser.parse_args()

settings = settings_of(args, "variant", "iterations", "epochs", "cnn_epochs")
output = folder_of(args, "affine_robustness")
keras.config.set_dtype_policy(args.precision)


def load(seed):
    """Digits to train on, to validate, and to test: unchanged and changed."""
    train, validation, familiar = datasets.aff_mnist(args.data_dir, seed, affine=False)
    return train, validation, familiar, datasets.aff_mnist(args.data_dir).test


def capsules(shape, steps):
    dynamic = routing.DynamicRouting(args.iterations)
    widths = models.CapsNet.variants[args.variant]
    return capsnet(shape, 10, steps, routing=dynamic, **widths), []


(output / "metrics.json").unlink(missing_ok=True)  # of a shorter run
networks = compare(
    output,
    settings,
    args.resume,
    load,
    lambda shape, steps: baseline_cnn(shape, 10, steps),
    capsules,
)

# Results.
figure = plotting.viewpoint_errors(
    {"digits: changed against unchanged": epochs(networks)}
)
figure.savefig(output / "affine.png")
write_json(output / "metrics.json", networks)
print()
kinds = {"novel_error": "changed", "familiar_error": "unchanged"}
report({"affine": networks}, kinds)
print(f"\nfiles: {output}/metrics.json, {output}/affine.png")
