"""Trains the network of "Dynamic routing between capsules" and exports it.

    python examples/train_capsnet.py --dataset digits
    python examples/train_capsnet.py --dataset mnist --precision mixed_bfloat16

The output folder gets metrics.json, history.csv, pictures and the best model;
saved_models/ gets a SavedModel. Stop it whenever you like: --resume goes on
after the last finished epoch.
"""

import keras
import numpy as np
from runs import DIGITS, arguments, begin, load, positive

from keras_capsules import losses, metrics, models, plotting, routing

parser = arguments(__doc__, "capsnet", [*DIGITS, "multi_mnist", "aff_mnist"])
parser.add_argument("--iterations", type=positive, default=3, help="routing iterations")
parser.add_argument("--loop", choices=["while", "unroll"], default="while")
parser.add_argument("--no-reconstruction", action="store_true", help="no decoder")
args = parser.parse_args()

run = begin(args, "capsnet")

# Data: images from 0 to 1.
train, validation, test = run.batches(
    lambda: load(args.dataset, args.data_dir, run.seed)
)
image_shape = tuple(train.element_spec[0].shape[1:])

# Model: the sizes of the paper are the defaults.
objects = 2 if args.dataset == "multi_mnist" else 1
model = models.CapsNet(
    image_shape,
    classes=10,
    routing=routing.DynamicRouting(args.iterations, args.loop),
    decoder_units=None if args.no_reconstruction else (512, 1024),
    objects=objects,
)
learning_rate = keras.optimizers.schedules.ExponentialDecay(
    0.001, decay_steps=args.epochs * len(train), decay_rate=0.05
)
model.compile(
    keras.optimizers.Adam(learning_rate),
    loss=losses.MarginLoss(),
    metrics=["accuracy" if objects == 1 else metrics.ExactMatch(name="accuracy")],
)
run.fit(model, train, validation, args.epochs)

# Results of the best epoch.
model, results = run.test(test)
examples, labels = (np.asarray(part) for part in next(iter(test.rebatch(10))))
pictures = {}
if model.decoder is not None:
    draw = plotting.reconstructions if objects == 1 else plotting.objects_apart
    pictures = {
        "reconstructions": draw(model, examples, labels),
        "pose_tweaks": plotting.pose_tweaks(model, examples[0]),
    }
run.report(model, {"iterations": args.iterations, **results}, pictures)
