"""Lists the test toys that networks misclassify, and the predicted categories.

    python -m experiments.mistaken_toys --dataset toys \\
        runs/cnn_toys/best.keras runs/matrix_capsnet_toys/best.keras

The script prints the toys sorted by their errors, and the error on all toys except the
first three. The output folder receives metrics.json and a figure with one photograph of
each toy, the one that most networks misclassify.
"""

import sys

import numpy as np

from experiments.flags import parser_of
from experiments.runs import TOYS, folder_of, load_networks, networks_of, write_json
from experiments.tables import MISTAKEN
from keras_capsules import callbacks, plotting
from keras_capsules.datasets.download import download
from keras_capsules.datasets.pairs import load
from keras_capsules.datasets.photographs import for_testing
from keras_capsules.datasets.toys import CATEGORIES
from keras_capsules.robustness.gradient import scores

callbacks.exit_cleanly()

args = networks_of(parser_of(__doc__), "mistaken", TOYS)
output = folder_of(args, "mistaken")

try:
    test = load(download(TOYS[args.dataset], args.data_dir), "test", stereo=False)
    output.mkdir(parents=True, exist_ok=True)
except (OSError, ValueError) as error:
    sys.exit(str(error))
networks = load_networks(args.networks)

# The predicted category of each photograph.
guesses = {}
for name, model in networks.items():
    print(name)
    try:
        outputs = model.predict(for_testing(test).batch(100))
    except ValueError as error:
        sys.exit(f"{name} can't take images of {args.dataset}: {error}")
    guesses[name] = scores(outputs).argmax(-1)
mistakes = sum(guess != test.labels for guess in guesses.values())

# Results.
instances = np.unique(test.instances)
shape = len(CATEGORIES), len(instances)
errors = {name: np.empty(shape) for name in networks}
photographs = np.empty((*shape, *test.images.shape[1:]))
toys = []
for toy in np.ndindex(shape):
    category, instance = toy[0], instances[toy[1]]
    shown = np.flatnonzero((test.labels == category) & (test.instances == instance))
    photographs[toy] = test.images[shown[mistakes[shown].argmax()]] / 255.0
    row = {"toy": f"{CATEGORIES[category]} {instance}"}
    for name, guess in guesses.items():
        counts = np.bincount(guess[shown], minlength=len(CATEGORIES))
        errors[name][toy] = 1.0 - counts[category] / len(shown)
        counts[category] = 0
        row[name] = {
            "error": errors[name][toy],
            "mistaken_for": CATEGORIES[counts.argmax()] if counts.any() else None,
        }
    toys.append(row)
toys.sort(key=lambda row: -max(row[name]["error"] for name in networks))
test_error = {
    name: float((guess != test.labels).mean()) for name, guess in guesses.items()
}
metrics = {"dataset": args.dataset, "test_error": test_error, "toys": toys}
plotting.error_by_toy(photographs, errors).savefig(output / "toys.png")
write_json(output / "metrics.json", metrics)

print(f"\n{'error in %':22}" + "".join(f"{name:>28}" for name in networks))
for row in toys:
    cells = (
        f"{100.0 * row[name]['error']:.1f} ({row[name]['mistaken_for'] or 'never'})"
        for name in networks
    )
    print(f"{row['toy']:22}" + "".join(f"{cell:>28}" for cell in cells))
others = {
    name: np.mean([row[name]["error"] for row in toys[MISTAKEN:]]) for name in networks
}
rest = f"the other {len(toys) - MISTAKEN}"
for label, found in (("all", test_error), (rest, others)):
    print(f"{label:22}" + "".join(f"{100.0 * x:>28.2f}" for x in found.values()))
print(f"\nfiles: {output}/metrics.json, {output}/toys.png")
