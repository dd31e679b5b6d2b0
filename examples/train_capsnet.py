"""Trains the network of "Dynamic routing between capsules" and exports it.

    python examples/train_capsnet.py --dataset digits
    python examples/train_capsnet.py --dataset mnist --precision mixed_bfloat16
    python examples/train_capsnet.py --dataset mnist --config small --epochs 30

The output folder gets metrics.json, history.csv, pictures and the best model;
saved_models/ gets a SavedModel. Stop it whenever you like: --resume goes on
after the last finished epoch.
"""

import numpy as np
from networks import CAPSNETS, capsnet
from runs import DIGITS, above_zero, arguments, begin, contents, load, positive

from keras_capsules import plotting, routing

parser = arguments(__doc__, "capsnet", [*DIGITS, "multi_mnist", "aff_mnist"])
parser.add_argument("--config", choices=CAPSNETS, default="paper")
parser.add_argument("--iterations", type=positive, default=3, help="routing iterations")
parser.add_argument(
    "--learning-rate",
    type=above_zero,
    default=0.001,
    help="of the first step; it falls to a twentieth",
)
parser.add_argument("--loop", choices=["while", "unroll"], default="while")
parser.add_argument("--no-reconstruction", action="store_true", help="no decoder")
args = parser.parse_args()

run = begin(args, "capsnet", "config", "learning_rate")
widths = CAPSNETS[args.config]
if args.no_reconstruction:
    widths = {**widths, "decoder_units": None}

train, validation, test = run.batches(
    lambda: load(args.dataset, args.data_dir, run.seed)
)
digits = contents(args.dataset)
model = capsnet(
    image_shape=tuple(train.element_spec[0].shape[1:]),
    steps=args.epochs * len(train),
    learning_rate=args.learning_rate,
    routing=routing.DynamicRouting(args.iterations, args.loop),
    **digits,
    **widths,
)
run.fit(model, train, validation, args.epochs)

# Results of the best epoch.
model, results = run.test(test)
examples, labels = (np.asarray(part) for part in next(iter(test.rebatch(10))))
pictures = {}
if model.decoder is not None:
    several = digits["objects"] > 1
    draw = plotting.objects_apart if several else plotting.reconstructions
    pictures = {
        "reconstructions": draw(model, examples, labels),
        "pose_tweaks": plotting.pose_tweaks(model, examples[0]),
    }
run.report(model, {"iterations": args.iterations, **results}, pictures)
