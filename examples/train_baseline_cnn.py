"""Trains the CNN that capsules are compared with and exports it.

    python examples/train_baseline_cnn.py --dataset digits
    python examples/train_baseline_cnn.py --dataset toys --epochs 30

Toys are tested with toys that were not trained on; for viewpoints that were not,
see novel_viewpoints.py. The output folder gets metrics.json, history.csv, a picture
and the best model; saved_models/ gets a SavedModel. Stop it whenever you like:
--resume goes on after the last finished epoch.
"""

from networks import baseline_cnn
from runs import DIGITS, TOYS, arguments, begin, contents, load

args = arguments(__doc__, "cnn", [*DIGITS, "multi_mnist", *TOYS]).parse_args()
run = begin(args, "cnn")

train, validation, test = run.batches(
    lambda: load(args.dataset, args.data_dir, run.seed)
)
model = baseline_cnn(
    image_shape=tuple(train.element_spec[0].shape[1:]),
    steps=args.epochs * len(train),
    **contents(args.dataset),
)
run.fit(model, train, validation, args.epochs)

# Results of the best epoch.
model, results = run.test(test)
run.report(model, results, pictures={})
