"""Tests the mean of the scores of several networks.

    python -m experiments.ensemble --dataset mnist \\
        runs/first/best.keras runs/second/best.keras runs/third/best.keras

The output folder receives metrics.json with the test errors of the networks, and of
their ensemble.
"""

import sys

import numpy as np

from experiments.flags import parser_of
from experiments.runs import (
    DIGITS,
    folder_of,
    load,
    load_networks,
    networks_of,
    write_json,
)
from keras_capsules import callbacks
from keras_capsules.robustness.gradient import scores

callbacks.exit_cleanly()

args = networks_of(parser_of(__doc__), "ensemble", DIGITS)
output = folder_of(args, "ensemble")

try:
    _, _, test = load(args.dataset, args.data_dir)
    output.mkdir(parents=True, exist_ok=True)
except (OSError, ValueError) as error:
    sys.exit(str(error))
labels = np.array([label for _, label in test.as_numpy_iterator()])
networks = load_networks(args.networks)

found = {}
for name, model in networks.items():
    print(name)
    try:
        outputs = model.predict(test.map(lambda image, _: image).batch(100))
    except ValueError as error:
        sys.exit(f"{name} can't take images of {args.dataset}: {error}")
    found[name] = scores(outputs)

# Results.
members = {
    name: float((of_network.argmax(-1) != labels).mean())
    for name, of_network in found.items()
}
together = np.mean(list(found.values()), axis=0)
metrics = {
    "dataset": args.dataset,
    "members": members,
    "test_error": float((together.argmax(-1) != labels).mean()),
    "parameters": sum(model.count_params() for model in networks.values()),
}
write_json(output / "metrics.json", metrics)

print()
for name, error in {**members, "ensemble": metrics["test_error"]}.items():
    print(f"{100.0 * error:6.2f} %  {name}")
print(f"\nfiles: {output}/metrics.json")
