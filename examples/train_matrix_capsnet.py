"""Trains the network of "Matrix capsules with EM routing" and exports it.

    python examples/train_matrix_capsnet.py --dataset digits --batch-size 16
    python examples/train_matrix_capsnet.py --dataset mnist --config small --epochs 6
    python examples/train_matrix_capsnet.py --dataset toys --config small

The output folder gets metrics.json, history.csv, pictures and the best model;
saved_models/ gets a SavedModel. Stop it whenever you like: --resume goes on
after the last finished epoch.
"""

import numpy as np
from networks import LOSSES, matrix_capsnet
from runs import DIGITS, TOYS, arguments, begin, contents, load, positive

from keras_capsules import plotting

parser = arguments(__doc__, "matrix_capsnet", [*DIGITS, *TOYS])
parser.add_argument("--config", choices=["paper", "small"], default="small")
parser.add_argument("--iterations", type=positive, default=3, help="routing iterations")
parser.add_argument("--loss", choices=LOSSES, default="spread")
parser.add_argument(
    "--no-coordinate-addition", action="store_true", help="votes without places"
)
args = parser.parse_args()

run = begin(args, "matrix_capsnet", "config", "loss")

train, validation, test = run.batches(
    lambda: load(args.dataset, args.data_dir, run.seed)
)
model, others = matrix_capsnet(
    image_shape=tuple(train.element_spec[0].shape[1:]),
    classes=contents(args.dataset)["classes"],
    config=args.config,
    iterations=args.iterations,
    steps=args.epochs * len(train),
    loss=args.loss,
    coordinate_addition=not args.no_coordinate_addition,
)
# A loss grows with its margin: the best epoch is that of the highest accuracy.
run.fit(
    model,
    train,
    validation,
    args.epochs,
    others,
    monitor="val_accuracy",
    mode="max",
)

# Results of the best epoch.
model, results = run.test(test)
examples, labels = (np.asarray(part) for part in next(iter(test)))
pictures = {
    "vote_distances": plotting.vote_distances(model, examples, labels),
    "assignments": plotting.assignments(model, examples[0]),
}
settings = {
    "iterations": args.iterations,
    "coordinate_addition": not args.no_coordinate_addition,
}
run.report(model, {**settings, **results}, pictures)
