"""Trains the CNN that capsules are compared with and exports it.

    python examples/train_baseline_cnn.py --dataset digits
    python examples/train_baseline_cnn.py --dataset toys --epochs 30

Toys are tested with toys that were not trained on; for viewpoints that were not,
see novel_viewpoints.py. The output folder gets metrics.json, history.csv, a picture
and the best model; saved_models/ gets a SavedModel. Stop it whenever you like:
--resume goes on after the last finished epoch.
"""

from pathlib import Path

import keras
from networks import baseline_cnn
from runs import DIGITS, TOYS, Run, arguments, load

args = arguments(__doc__, "cnn", [*DIGITS, *TOYS]).parse_args()

settings = {
    name: getattr(args, name) for name in ("dataset", "limit", "batch_size", "seed")
}
output = args.output or Path("runs") / f"cnn_{args.dataset.replace('/', '_')}"
run = Run(output, settings, args.resume)
keras.config.set_dtype_policy(args.precision)

train, validation, test = run.batches(
    lambda: load(args.dataset, args.data_dir, run.seed)
)
model = baseline_cnn(
    image_shape=tuple(train.element_spec[0].shape[1:]),
    classes=10 if args.dataset in DIGITS else 5,
    steps=args.epochs * len(train),
)
run.fit(model, train, validation, args.epochs)

# Results of the best epoch.
model = run.best()
print("Test images:")
accuracy = model.evaluate(test, return_dict=True)["accuracy"]
run.report(
    model, {"test_accuracy": accuracy, "test_error": 1.0 - accuracy}, pictures={}
)
