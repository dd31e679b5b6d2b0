"""Tests capsules and a CNN on viewpoints that they were not trained on.

    python -m experiments.novel_viewpoints --dataset toys --epochs 8 --cnn-epochs 24
    python -m experiments.novel_viewpoints --dataset smallnorb --variant paper
    python -m experiments.novel_viewpoints --dataset eth80 --data-dir FOLDER

Both networks are trained on a part of the viewpoints and tested on the others, with
unseen objects. As in the paper, their errors on novel viewpoints are compared at epochs
with equal errors on familiar viewpoints; see matching.py. An epoch of the CNN takes
less time. With more --cnn-epochs the CNN has a smaller error on familiar viewpoints,
and the capsules reach the same error at a later epoch.

The output folder receives metrics.json, a figure, and a folder for each training with
best.keras, the model that is compared. Ctrl-C stops the script at any time; --resume,
with the same --epochs and --cnn-epochs, continues after the last finished epoch.
"""

import keras

from experiments.flags import parser_of, positive
from experiments.matching import compare, epochs, report
from experiments.networks import ROUTINGS, baseline_cnn, matrix_capsnet
from experiments.runs import (
    VIEWPOINTS,
    add_flags,
    contents,
    folder_of,
    settings_of,
    write_json,
)
from keras_capsules import callbacks, datasets, models, plotting

callbacks.exit_cleanly("--resume goes on from the last finished epoch.")

parser = parser_of(__doc__)
add_flags(parser, "novel_viewpoints", [*VIEWPOINTS])
parser.add_argument("--novel", choices=["azimuth", "elevation", "both"], default="both")
parser.add_argument("--variant", choices=models.MatrixCapsNet.variants, default="small")
parser.add_argument("--routing", choices=ROUTINGS, default="em")
parser.add_argument("--iterations", type=positive, default=3, help="routing iterations")
parser.add_argument("--cnn-epochs", type=positive, help="default: --epochs")
args = parser.parse_args()

settings = settings_of(args, "variant", "routing", "iterations", "epochs", "cnn_epochs")
output = folder_of(args, "novel_viewpoints")
keras.config.set_dtype_policy(args.precision)

classes = contents(args.dataset)["classes"]
metrics = {}
for novel in ["azimuth", "elevation"] if args.novel == "both" else [args.novel]:
    metrics[novel] = compare(
        output / novel,
        output / "metrics.json",
        settings,
        args.resume,
        lambda seed, novel=novel: datasets.viewpoint_split(
            VIEWPOINTS[args.dataset], novel, args.data_dir, seed=seed
        ),
        lambda shape, steps: baseline_cnn(shape, classes, steps),
        lambda shape, steps: matrix_capsnet(
            shape,
            classes,
            args.variant,
            args.iterations,
            steps,
            args.epochs,
            routed_by=args.routing,
        ),
    )

# Results, as in table 2 of the paper.
lines = {f"novel {novel}": epochs(networks) for novel, networks in metrics.items()}
plotting.viewpoint_errors(lines).savefig(output / "viewpoints.png")
write_json(output / "metrics.json", metrics)
print(f"\n{args.dataset}, and smallNORB in the paper")
report(metrics, {"novel_error": "novel", "familiar_error": "familiar"})
print(f"\nfiles: {output}/metrics.json, {output}/viewpoints.png")
