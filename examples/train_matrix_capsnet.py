"""Trains the network of "Matrix capsules with EM routing" and exports it.

    python examples/train_matrix_capsnet.py --dataset digits --batch-size 16
    python examples/train_matrix_capsnet.py --dataset mnist --config small --epochs 6
    python examples/train_matrix_capsnet.py --dataset toys --config small

The output folder gets metrics.json, history.csv, pictures and the best model;
saved_models/ gets a SavedModel. Stop it whenever you like: --resume goes on
after the last finished epoch.
"""

import sys
from pathlib import Path

import keras
import numpy as np
from runs import Run, arguments

from keras_capsules import callbacks, datasets, losses, models, routing

parser = arguments(
    __doc__, "matrix_capsnet", ["digits", "mnist", "toys", "toys/full", "smallnorb"]
)
parser.add_argument("--config", choices=["paper", "small"], default="small")
args = parser.parse_args()

settings = {
    name: getattr(args, name)
    for name in ("dataset", "config", "limit", "batch_size", "seed")
}
name = f"matrix_capsnet_{args.dataset.replace('/', '_')}"
run = Run(args.output or Path("runs") / name, settings, args.resume)
keras.config.set_dtype_policy(args.precision)

# Data: digits from 0 to 1, shifted by up to 2 pixels to train on; toys are
# standardised and cropped at random.
load = {
    "digits": datasets.digits,
    "mnist": lambda: datasets.mnist(args.data_dir),
    "toys": lambda: datasets.toys("small", args.data_dir, seed=run.seed),
    "toys/full": lambda: datasets.toys("full", args.data_dir, seed=run.seed),
    "smallnorb": lambda: datasets.smallnorb(args.data_dir, seed=run.seed),
}[args.dataset]
try:
    train, validation, test = (part.take(args.limit or -1) for part in load())
except FileNotFoundError as error:
    sys.exit(str(error))
images = len(train)
image_shape = tuple(train.element_spec[0].shape)
digits = args.dataset in ("digits", "mnist")
train = train.shuffle(10_000, run.seed)
if digits:
    train = datasets.random_shift(train, 2, run.seed)
train = train.batch(args.batch_size).prefetch(2)
validation, test = validation.batch(args.batch_size), test.batch(args.batch_size)

# Model. The margin grows over the first half of the training, whatever its length.
model = models.MatrixCapsNet(
    image_shape,
    classes=10 if digits else 5,
    config=args.config,
    routing=routing.EMRouting(args.iterations),
)
steps = args.epochs * len(train)
learning_rate = keras.optimizers.schedules.CosineDecay(
    0.0, steps, alpha=0.01, warmup_target=0.01, warmup_steps=min(200, steps // 10)
)
model.compile(
    keras.optimizers.Adam(learning_rate),
    loss=losses.SpreadLoss(),
    metrics=["accuracy"],
)
margin = callbacks.SpreadMarginSchedule(steps=max(1, steps // 16))
# A loss grows with its margin: the best epoch is that of the highest accuracy.
run.fit(
    model,
    train,
    validation,
    args.epochs,
    others=[margin],
    monitor="val_accuracy",
    mode="max",
)

# Results of the best epoch.
model = run.best()
print("Test images:")
accuracy = model.evaluate(test, return_dict=True)["accuracy"]
results = {
    "iterations": args.iterations,
    "test_accuracy": accuracy,
    "test_error": 1.0 - accuracy,
}
examples, labels = (np.asarray(part) for part in next(iter(test.rebatch(10))))
run.report(model, images, results, {})
