"""Tests capsules and a CNN on rotated, sheared and scaled digits.

    python -m experiments.affine_robustness --precision mixed_bfloat16

Both networks are trained on MNIST digits at random positions on a black canvas, without
any other change. As in the paper, their errors on changed digits are compared at epochs
with equal errors on unchanged digits; see matching.py. A CNN that is trained as long as
the capsules has a smaller error on unchanged digits. With fewer --cnn-epochs the errors
can be equal.

The output folder receives metrics.json, a figure, and a folder for each training with
best.keras, the model that is compared. Ctrl-C stops the script at any time; --resume,
with the same --epochs and --cnn-epochs, continues after the last finished epoch.
"""

import keras

from experiments.flags import parser_of, positive
from experiments.matching import compare, epochs, report
from experiments.networks import baseline_cnn, capsnet
from experiments.runs import add_flags, folder_of, settings_of, write_json
from keras_capsules import callbacks, datasets, models, plotting, routing

callbacks.exit_cleanly("--resume goes on from the last finished epoch.")

parser = parser_of(__doc__)
add_flags(parser, "affine_robustness", ["aff_mnist"])
parser.add_argument("--variant", choices=models.CapsNet.variants, default="small")
parser.add_argument("--iterations", type=positive, default=3, help="routing iterations")
parser.add_argument("--cnn-epochs", type=positive, help="default: --epochs")
args = parser.parse_args()

settings = settings_of(args, "variant", "iterations", "epochs", "cnn_epochs")
output = folder_of(args, "affine_robustness")
keras.config.set_dtype_policy(args.precision)


def load(seed):
    """Loads digits for training, validation, and two tests: unchanged and changed."""
    train, validation, familiar = datasets.aff_mnist(args.data_dir, seed, affine=False)
    return train, validation, familiar, datasets.aff_mnist(args.data_dir).test


def capsules(shape, steps):
    dynamic = routing.DynamicRouting(args.iterations)
    widths = models.CapsNet.variants[args.variant]
    return capsnet(shape, 10, steps, routing=dynamic, **widths), []


networks = compare(
    output,
    output / "metrics.json",
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
