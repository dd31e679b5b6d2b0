"""Measures how well the viewpoint of an object can be read from its pose.

    python -m experiments.equivariance --dataset toys/full \\
        runs/azimuth/cnn/best.keras runs/azimuth/capsules/best.keras

For each category, a linear regression predicts azimuth and elevation from the pose of
the class capsule, or from the last hidden layer of a network without capsules. The
azimuth is represented by its sine and cosine. The regression is fitted to all test
objects of the category except one and predicts the angles of that object, in turn for
each object. R² is the share of the variance that it explains over all objects;
predicting the mean gives 0.

The output folder receives metrics.json and a figure.
"""

import sys

import keras
import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict

from experiments.flags import parser_of
from experiments.runs import (
    VIEWPOINTS,
    folder_of,
    load_networks,
    networks_of,
    write_json,
)
from keras_capsules import callbacks, models, plotting
from keras_capsules.datasets.download import download
from keras_capsules.datasets.eth80 import CATEGORIES as REAL
from keras_capsules.datasets.eth80 import load_eth80
from keras_capsules.datasets.pairs import load
from keras_capsules.datasets.photographs import for_testing
from keras_capsules.datasets.toys import CATEGORIES as TOYS

callbacks.exit_cleanly()

args = networks_of(parser_of(__doc__), "equivariance", VIEWPOINTS)
output = folder_of(args, "equivariance")


def hidden(model, images):
    """Returns the last hidden layer of a CNN, `(batch, units)`."""
    x = model.as_images(images)
    for layer in model.features:
        x = layer(x)
    return keras.ops.convert_to_numpy(model.hidden(x))


def described(model, category):
    """Returns the features that predict the angles of a category, `(images, size)`."""
    batches = for_testing(test.take(test.labels == category)).batch(100)
    if not isinstance(model, models.CapsuleNetwork):
        return np.concatenate([hidden(model, images) for images, _ in batches])
    poses = model.predict(batches, verbose=0)["poses"][:, category]
    return poses.reshape(len(poses), -1)


def explained(features, targets, objects):
    """Returns R² of a linear regression, cross-validated over objects.

    Args:
        features: inputs of the regression, `(images, size)`.
        targets: values to predict, `(images, numbers)`.
        objects: number of the object in each image, `(images,)`.
    """
    # All features are scaled together: some are active only for the object left out.
    features = features / features.std()
    found = cross_val_predict(
        RidgeCV(np.logspace(-1, 5, 7)),
        features,
        targets,
        groups=objects,
        cv=LeaveOneGroupOut(),
    )
    errors = targets - found.reshape(targets.shape)
    variance = np.square(targets - targets.mean(0)).sum()
    return float(1.0 - np.square(errors).sum() / variance)


try:
    if args.dataset == "eth80":
        categories, (_, test) = REAL, load_eth80(args.data_dir)
    else:
        categories = TOYS
        builder = download(VIEWPOINTS[args.dataset], args.data_dir)
        test = load(builder, "test", stereo=False)
    output.mkdir(parents=True, exist_ok=True)
except (OSError, ValueError) as error:
    sys.exit(str(error))
networks = load_networks(args.networks)
for name, model in networks.items():
    if getattr(model, "classes", None) != len(categories):
        sys.exit(
            f"{args.networks[name]} must be a network of this package with "
            f"{len(categories)} classes, as {args.dataset} has. Received: {model.name}"
        )

rows = {"azimuth": [], "elevation": []}
for name, model in networks.items():
    print(name)
    for label, category in enumerate(categories):
        chosen = test.take(test.labels == label)
        features = described(model, label)
        radians = np.deg2rad(chosen.azimuths)
        angles = {
            "azimuth": np.stack([np.sin(radians), np.cos(radians)], axis=-1),
            "elevation": chosen.elevations[:, None].astype("float64"),
        }
        for angle, targets in angles.items():
            r2 = explained(features, targets, chosen.instances)
            rows[angle].append({"model": name, "category": category, "r2": r2})

# Results.
means = {
    angle: {
        name: float(np.mean([row["r2"] for row in found if row["model"] == name]))
        for name in networks
    }
    for angle, found in rows.items()
}
plotting.read_outs(rows).savefig(output / "equivariance.png")
write_json(
    output / "metrics.json", {"dataset": args.dataset, "mean": means, "r2": rows}
)

print(f"\n{'R²':22}" + "".join(f"{name:>14}" for name in networks))
for angle, found in rows.items():
    for category in categories:
        values = [row["r2"] for row in found if row["category"] == category]
        print(f"{f'{angle}, {category}':22}" + "".join(f"{x:14.2f}" for x in values))
    values = means[angle].values()
    print(f"{f'{angle}, mean':22}" + "".join(f"{x:14.2f}" for x in values))
print(f"\nfiles: {output}/metrics.json, {output}/equivariance.png")
