"""Trains a network of the tables, with all settings that the tables compare.

    python -m experiments.train capsnet --dataset mnist --variant small --epochs 60
    python -m experiments.train matrix_capsnet --dataset toys/full --iterations 1
    python -m experiments.train cnn --dataset toys/full
    python -m experiments.train residual --dataset cifar10
    python -m experiments.train convolutional --dataset multi_mnist
    python -m experiments.train convolutional --dataset mnist --distorted
    python -m experiments.train contender --routing self_attention
    python -m experiments.train contender --routing MODULE:CLASS
    python -m experiments.train matrix_capsnet --dataset eth80 --data-dir FOLDER

The output folder receives metrics.json, history.csv, figures and the best model. Ctrl-C
stops the training at any time; --resume continues it after the last finished epoch.
"""

import functools

import keras
import numpy as np

from experiments import networks
from experiments.flags import above_zero, parser_of, positive
from experiments.runs import (
    DIGITS,
    PICTURES,
    VIEWPOINTS,
    Run,
    add_flags,
    contents,
    folder_of,
    load,
    settings_of,
)
from keras_capsules import callbacks, models, plotting, robustness, routing

# The attack on contenders: number of test images, and largest change of a pixel.
ATTACKED, EPSILON = 1_000, 0.1

callbacks.exit_cleanly("--resume goes on from the last finished epoch.")

parser = parser_of(__doc__)
commands = parser.add_subparsers(dest="network", required=True)

capsnet = commands.add_parser("capsnet", help="dynamic routing")
add_flags(capsnet, "capsnet", [*DIGITS, "multi_mnist", "aff_mnist"])
capsnet.add_argument("--variant", choices=models.CapsNet.variants, default="paper")
capsnet.add_argument("--iterations", type=positive, default=3)
capsnet.add_argument(
    "--learning-rate",
    type=above_zero,
    default=0.001,
    help="learning rate of the first step; it decays to zero",
)
capsnet.add_argument(
    "--reconstruction-weight",
    type=above_zero,
    default=0.392,
    help="weight of the reconstruction loss; for 28×28 images the paper uses 0.392; "
    "its authors' code uses 7.84, but divides the margin loss by 20",
)
capsnet.add_argument("--no-reconstruction", action="store_true", help="no decoder")

matrix = commands.add_parser("matrix_capsnet", help="EM routing")
add_flags(matrix, "matrix_capsnet", [*DIGITS, *VIEWPOINTS])
matrix.add_argument(
    "--variant",
    type=networks.matrix_variant,
    default="small",
    help=f"{', '.join(models.MatrixCapsNet.variants)}, or the sizes A,B,C,D",
)
matrix.add_argument("--iterations", type=positive, default=3)
matrix.add_argument("--routing", choices=networks.ROUTINGS, default="em")
matrix.add_argument(
    "--learning-rate",
    type=above_zero,
    default=0.01,
    help="largest learning rate; it rises first and then decays",
)
matrix.add_argument("--loss", choices=networks.LOSSES, default="spread")
matrix.add_argument(
    "--no-coordinate-addition",
    action="store_true",
    help="votes without the coordinates of their children",
)

cnn = commands.add_parser("cnn", help="the baseline CNN")
add_flags(cnn, "cnn", [*DIGITS, "multi_mnist", *VIEWPOINTS])

residual = commands.add_parser("residual", help="a residual network with capsules")
add_flags(residual, "residual", [*DIGITS, *PICTURES])
residual.add_argument(
    "--routing",
    choices=[*routing.names(), "dense"],
    default="inverted_attention",
    help="dense: a dense layer instead of capsules",
)

convolutional = commands.add_parser(
    "convolutional", help="convolutions with batch normalization, and capsules"
)
add_flags(convolutional, "convolutional", [*DIGITS, "multi_mnist", "aff_mnist"])
convolutional.add_argument(
    "--routing", choices=routing.names(), default="self_attention"
)
convolutional.add_argument(
    "--distorted",
    action="store_true",
    help="distort digits at random, as for Efficient-CapsNet, instead of shifting them",
)

contender = commands.add_parser("contender", help="the network of the leaderboard")
names = (*DIGITS, "multi_mnist", "aff_mnist", *PICTURES, *VIEWPOINTS)
add_flags(contender, "contender", names)
contender.add_argument(
    "--routing",
    type=networks.contender_name,
    default="dynamic",
    help=f"{', '.join(networks.CONTENDERS)}, or MODULE:CLASS of a routing of your own",
)
args = parser.parse_args()
distorted = getattr(args, "distorted", False)
if distorted and args.dataset not in DIGITS:
    parser.error(f"--distorted is for {' and '.join(DIGITS)}, received {args.dataset}")

fixed = {
    "capsnet": ["variant", "learning_rate", "reconstruction_weight"],
    "matrix_capsnet": ["variant", "routing", "loss", "learning_rate"],
    "residual": ["routing"],
    "convolutional": ["routing", "distorted"],
    "contender": ["routing"],
}
run = Run(
    folder_of(args, args.network),
    settings_of(args, *fixed.get(args.network, [])),
    args.resume,
)
keras.config.set_dtype_policy(args.precision)
train, validation, test = run.batches(
    lambda: load(args.dataset, args.data_dir, run.seed, args.network == "capsnet"),
    distorted,
)

# The network.
image_shape = tuple(train.element_spec[0].shape[1:])
steps = args.epochs * len(train)
settings, others, best = {}, [], {}
if args.network == "capsnet":
    settings = {"iterations": args.iterations}
    sizes = contents(args.dataset) | models.CapsNet.variants[args.variant]
    sizes["reconstruction_weight"] = args.reconstruction_weight
    if args.no_reconstruction:
        sizes["decoder_units"] = None
    model = networks.capsnet(
        image_shape,
        steps=steps,
        learning_rate=args.learning_rate,
        routing=routing.DynamicRouting(args.iterations),
        **sizes,
    )
elif args.network == "matrix_capsnet":
    settings = {
        "iterations": args.iterations,
        "coordinate_addition": not args.no_coordinate_addition,
    }
    model, others = networks.matrix_capsnet(
        image_shape,
        contents(args.dataset)["classes"],
        args.variant,
        steps=steps,
        epochs=args.epochs,
        loss=args.loss,
        routed_by=args.routing,
        learning_rate=args.learning_rate,
        **settings,
    )
    # The spread loss grows with its margin, so the accuracy chooses the best epoch.
    best = {"monitor": "val_accuracy", "mode": "max"}
elif args.network == "residual":
    model = networks.residual(
        image_shape,
        contents(args.dataset)["classes"],
        args.routing,
        steps=steps,
        epochs=args.epochs,
    )
elif args.network in ("convolutional", "contender"):
    build = getattr(networks, args.network)
    model = build(
        image_shape,
        routed_by=args.routing,
        steps=steps,
        epochs=args.epochs,
        **contents(args.dataset),
    )
else:
    model = networks.baseline_cnn(image_shape, steps=steps, **contents(args.dataset))
routed = not {"cnn", "dense"} & {args.network, getattr(args, "routing", None)}
if routed:
    others.append(callbacks.RoutingMonitor(next(iter(validation))[0][:32]))
run.fit(model, train, validation, args.epochs, others, **best)

# Results of the best epoch.
model, results = run.test(test)
examples, labels = keras.tree.map_structure(np.asarray, next(iter(test)))
pictures = {}
if routed:
    pictures["routing"] = plotting.routing_history(run.history)
if args.network == "contender" and contents(args.dataset)["objects"] == 1:
    attack = functools.partial(
        robustness.fgsm,
        loss=robustness.cross_entropy,
        # Photographs are standardized: their pixels have no bounds.
        clip=None if args.dataset in VIEWPOINTS else (0.0, 1.0),
    )
    attacked = test.unbatch().take(ATTACKED).batch(args.batch_size)
    (row,) = robustness.accuracy_under_attack(
        {args.routing: model}, attacked, attack, [EPSILON]
    )
    results["fgsm_accuracy"] = row["accuracy"]
elif args.network == "matrix_capsnet":
    pictures |= {
        "vote_distances": plotting.vote_distances(model, examples, labels),
        "assignments": plotting.assignments(model, examples[0]),
    }
elif args.network == "capsnet" and model.decoder is not None:
    several = model.objects > 1
    draw = plotting.objects_apart if several else plotting.reconstructions
    few = keras.tree.map_structure(lambda part: part[:10], (examples, labels))
    pictures |= {
        "reconstructions": draw(model, *few),
        "pose_tweaks": plotting.pose_tweaks(model, examples[0]),
    }
run.report(model, {**settings, **results}, pictures)
