"""Compares all routings of the package and a CNN in one network.

    python -m experiments.leaderboard mnist
    python -m experiments.leaderboard mnist --seed 1 --only em uniform
    python -m experiments.leaderboard digits --only MODULE:CLASS
    python -m experiments.leaderboard

The network is `networks.contender`. All routings have the same convolutions, optimizer,
loss and number of steps, and no setting is tuned for a single routing. `--only` selects
routings, and also accepts your own routing, MODULE:CLASS of an importable module.

Each training has a folder in `--folder`, and its results are written to a file in
results/leaderboard. The tables and figures of docs/leaderboard.md are made from these
files. Without a data set only the page is updated. Ctrl-C stops the script at any time;
the same command continues after the last finished epoch.
"""

import json
import statistics
from pathlib import Path

from experiments import pages
from experiments.flags import natural, parser_of
from experiments.kept import keep, machines, results_of
from experiments.networks import CONTENDERS, contender_name
from experiments.pages import figure, head, line, origin, read_page, spread
from keras_capsules import plotting

RESULTS, PAGE = Path("results/leaderboard"), Path("docs/leaderboard.md")
FOLDER = Path("runs/leaderboard")
# Flags of the training for each data set.
BUDGETS = {
    "digits": "--dataset digits --batch-size 32 --epochs 20",
    "mnist": "--dataset mnist --epochs 2",
    "multi_mnist": "--dataset multi_mnist --epochs 2",
    "aff_mnist": "--dataset aff_mnist --epochs 2",
    "toys": "--dataset toys/full --epochs 2",
    "cifar10": "--dataset cifar10 --epochs 5",
    "eth80": "--dataset eth80 --batch-size 16 --epochs 20",
}
SUMMARY = "all"
SECTIONS = SUMMARY, *BUDGETS
ERRORS = "Test errors of the table. Each dot is one seed, a line the mean of three."
COLUMNS = "error in %", "seeds", "parameters", "effective parents", "accuracy, FGSM"


def name_of(dataset, contender):
    """Returns the name of a training."""
    return f"{dataset}_{contender.replace(':', '.')}"


def command_of(dataset, contender):
    """Returns the command of a training."""
    flags = BUDGETS[dataset]
    return f"python -m experiments.train contender --routing {contender} {flags}"


def train(dataset, contender, seed, folder, options):
    """Trains one network, or continues its training, and stores the results."""
    name, command = name_of(dataset, contender), command_of(dataset, contender)
    keep(name, command, seed, folder, RESULTS, options)


def effective_parents(metrics):
    """Returns the effective parents in both layers after the last epoch, as text."""
    last = metrics["history"][-1]
    names = [f"{layer}_effective_parents" for layer in ("hidden", "classes")]
    return ", ".join(f"{last[name]:.2f}" for name in names if name in last) or "–"


def cells(contender, kept):
    """Returns the cells of the table row of a contender.

    Args:
        contender: name of the contender.
        kept: its metrics, for each seed.
    """
    attacked = [metrics.get("fgsm_accuracy") for metrics in kept]
    return [
        contender,
        spread(errors(kept)),
        ", ".join(str(metrics["seed"]) for metrics in kept),
        f"{kept[0]['parameters']:,}",
        effective_parents(kept[0]),
        "–" if None in attacked else f"{100.0 * statistics.mean(attacked):.1f} %",
    ]


def errors(kept):
    """Returns the test errors of all seeds in per cent."""
    return [100.0 * metrics["test_error"] for metrics in kept]


def contenders_of(dataset):
    """Returns `CONTENDERS`, and the user's own routings that have results."""
    kept = (json.loads(path.read_text()) for path in RESULTS.glob(f"{dataset}_*.json"))
    names = {metrics.get("routing", "") for metrics in kept}
    return *CONTENDERS, *sorted(name for name in names if ":" in name)


def section(dataset):
    """Returns the section of a data set in docs/leaderboard.md, best routing first."""
    contenders = contenders_of(dataset)
    runs = {
        contender: results_of(name_of(dataset, contender), RESULTS)
        for contender in contenders
    }
    there = [contender for contender in contenders if runs[contender]]
    there.sort(key=lambda contender: statistics.mean(errors(runs[contender])))
    lines = head("routing", *COLUMNS)
    lines += [line(cells(contender, runs[contender])) for contender in there]
    missing = ", ".join(name for name in CONTENDERS if name not in there)
    if not there:
        lines = ["Not run here."]
    elif missing:
        lines += ["", f"Not run here: {missing}."]
    if len(there) > 1:
        others = {"paper": [], "best open code": []}
        drawn = [
            {"label": contender, "ours": errors(runs[contender]), **others}
            for contender in there
        ]
        lines += figure(plotting.errors(drawn), f"leaderboard_{dataset}", ERRORS)
    where = machines(metrics for kept in runs.values() for metrics in kept)
    # ETH-80 has no default folder.
    data = " --data-dir FOLDER" if dataset == "eth80" else ""
    command = f"python -m experiments.leaderboard {dataset}{data}"
    lines += origin(command, where, [command_of(dataset, "ROUTING") + data])
    return "\n".join(lines)


def summary():
    """Returns the table of the mean errors on all data sets.

    The last column is the mean of the ranks on the data sets where all contenders of
    the package were run.
    """
    means = {
        dataset: {
            contender: statistics.mean(errors(kept))
            for contender in CONTENDERS
            if (kept := results_of(name_of(dataset, contender), RESULTS))
        }
        for dataset in BUDGETS
    }
    ranks = {contender: [] for contender in CONTENDERS}
    for found in means.values():
        if len(found) == len(CONTENDERS):
            for contender, error in found.items():
                better = sum(other < error - 1e-9 for other in found.values())
                ranks[contender].append(1 + better)
    lines = head("error in %, mean of the seeds", *means, "mean rank")
    for contender in sorted(CONTENDERS, key=lambda name: sum(ranks[name])):
        row = (found.get(contender) for found in means.values())
        mean = f"{statistics.mean(ranks[contender]):.1f}" if ranks[contender] else "–"
        row = ("–" if error is None else f"{error:.2f}" for error in row)
        lines.append(line([contender, *row, mean]))
    return "\n".join([*lines, "", "`python -m experiments.leaderboard`"])


def write_page():
    """Writes the tables between their marks in docs/leaderboard.md."""
    pages.write_page(
        PAGE, SECTIONS, lambda name: summary() if name == SUMMARY else section(name)
    )
    print(f"\n{PAGE} is made from {RESULTS}/*.json")


parser = parser_of(__doc__)
parser.add_argument(
    "dataset", nargs="?", choices=BUDGETS, help="default: only update the page"
)
parser.add_argument("--seed", type=natural, default=0)
parser.add_argument("--only", type=contender_name, nargs="+", default=CONTENDERS)
parser.add_argument("--data-dir", help="folder of TensorFlow Datasets, or of ETH-80")
parser.add_argument("--folder", type=Path, default=FOLDER, help="folder of the runs")

if __name__ == "__main__":
    args = parser.parse_args()
    options = ["--data-dir", args.data_dir] if args.data_dir else []
    read_page(PAGE, SECTIONS)  # reports a missing page before hours of training
    if args.dataset:
        for contender in args.only:
            train(args.dataset, contender, args.seed, args.folder, options)
    write_page()
