"""Reproduces a table of docs/results.md and updates the page.

    python -m experiments.reproduce mnist
    python -m experiments.reproduce mnist --seed 1
    python -m experiments.reproduce

The runs of each table are listed in tables.py. Each run has a folder in `--folder`. Its
metrics.json, with the command and the machine, is stored in results/. The tables and
figures of docs/results.md are made from these files. Without a table only the page is
updated. Ctrl-C stops the script at any time; the same command continues after the last
finished epoch.
"""

import statistics
from pathlib import Path

from experiments import pages
from experiments.flags import natural, parser_of
from experiments.kept import keep, key_of, machines, results_of
from experiments.matching import epochs
from experiments.pages import figure, head, line, origin, read_page, spread
from experiments.tables import MISTAKEN, RUNS, TABLES
from keras_capsules import plotting

RESULTS, PAGE = Path("results"), Path("docs/results.md")
FOLDER = Path("runs/results")
ERRORS = (
    "Test errors of the table. Each dot is one run, a line the mean of three; stars "
    "are the paper's errors, crosses those of the best open code."
)
# Columns of errors in a table.
NUMBERS = "ours", "paper", "best open code"


def command_of(name, seed, folder):
    """Returns the command of a run, with the folders of other runs of this seed."""
    folders = {run: folder / key_of(run, seed) for run in RUNS}
    return RUNS[name].format_map(folders)


def train(name, seed, folder, options):
    """Runs or continues a run of `tables.RUNS`, and stores its results."""
    keep(name, command_of(name, seed, folder), seed, folder, RESULTS, options)


def kept(name):
    """Returns the stored results of a run, for each of its seeds."""
    return results_of(name, RESULTS)


def at(metrics, path):
    for name in filter(None, path.split(".")):
        metrics = metrics[name]
    return metrics


def published(error):
    """Formats an error as papers do: with two decimals if it is below 1 %."""
    if error is None:
        return "–"
    return f"{error:.2f}" if error < 1.0 else f"{error:g}"


def minutes(network):
    """Returns the minutes of a training as text. An ensemble is not trained."""
    return f"{network['seconds'] / 60:.0f}" if "seconds" in network else "–"


def error_table(table, name):
    """Returns the lines of a table of errors and its figure."""
    columns = "seeds", "parameters", "epochs", "minutes"
    lines, points = head("error in %", *NUMBERS, *columns), []
    for row in table.rows:
        networks = [at(metrics, row.network) for metrics in kept(row.run)]
        ours = [100.0 * at(network, row.value) for network in networks]
        cells = [row.label, spread(ours) or "not run here"]
        cells += [published(row.paper), published(row.best_open)]
        if networks:
            first = networks[0]
            cells += [
                ", ".join(str(network["seed"]) for network in networks),
                f"{first['parameters']:,}",
                str(first.get("epochs", "–")),
                ", ".join(minutes(network) for network in networks),
            ]
        else:
            cells += ["–"] * 4
        lines.append(line(cells))
        points.append(
            {
                "label": row.label,
                "ours": ours,
                "paper": [row.paper] if row.paper else [],
                "best open code": [row.best_open] if row.best_open else [],
            }
        )
    if any(point["ours"] for point in points):
        # A row without any number would be an empty line in the figure.
        drawn = [point for point in points if any(map(point.get, NUMBERS))]
        if len(drawn) > 1:
            lines += figure(plotting.errors(drawn), f"results_{name}", ERRORS)
    return lines


def attack_table(name, metrics):
    """Returns the lines of a table of accuracies under attack and its figure."""
    accuracy = metrics["accuracy"]
    columns = {
        f"{attack}, {'CNN' if model == 'cnn' else model}": {
            row["epsilon"]: row["accuracy"] for row in rows if row["model"] == model
        }
        for attack, rows in accuracy.items()
        for model in ("capsules", "cnn")
    }
    lines = ["", f"Accuracy in % on {metrics['images']:,} test images of "]
    lines[-1] += f"{metrics['dataset']}, networks of seed {metrics['seed']}:"
    lines += ["", *head("epsilon", *columns)]
    for epsilon in next(iter(columns.values())):
        cells = (f"{100.0 * column[epsilon]:.1f}" for column in columns.values())
        lines.append(line([f"{epsilon:g}", *cells]))
    drawn = plotting.attack_curves(accuracy)
    return lines + figure(
        drawn,
        f"results_{name}",
        "Accuracy against epsilon, the largest change of a pixel",
    )


def mistake_table(name, metrics):
    """Returns the lines of a table of the toys with the largest errors."""
    networks = metrics["test_error"]
    lines = ["", *head("error in % on a toy", *networks)]
    for row in metrics["toys"][:MISTAKEN]:
        cells = (
            f"{100.0 * row[network]['error']:.1f} "
            f"({row[network]['mistaken_for'] or 'never'})"
            for network in networks
        )
        lines.append(line([row["toy"], *cells]))
    others = metrics["toys"][MISTAKEN:]
    cells = (
        f"{100.0 * statistics.mean(row[network]['error'] for row in others):.1f}"
        for network in networks
    )
    return [*lines, line([f"the other {len(others)}", *cells])]


def routing_table(rows):
    """Returns the lines of a table that describes the routing of each layer.

    A cell has the standard deviation of the activations, and the effective number of
    parents of a child divided by the number of parents, both after the last epoch and
    averaged over the seeds.
    """
    layers = "conv_capsules_1", "conv_capsules_2", "class_capsules"
    lines = ["", *head("deviation of activations, effective parents", *layers)]
    for row in rows:
        last = [metrics["history"][-1] for metrics in kept(row.run)]
        means = {
            layer: [
                statistics.mean(epoch[f"{layer}_{what}"] for epoch in last)
                for what in ("activation_std", "effective_parents")
            ]
            for layer in layers
            if last
        }
        cells = ["{:.2f}, {:.2f}".format(*found) for found in means.values()]
        lines.append(line([row.label, *(cells or ["–"] * len(layers))]))
    return lines


def epochs_figure(name, metrics):
    """Returns the lines of a figure of the errors after each epoch."""
    compared = {"digits": metrics} if "cnn" in metrics else metrics
    panels = {
        title: epochs(compared[what])
        for what, title in NOVEL.items()
        if what in compared
    }
    drawn = plotting.viewpoint_errors(panels)
    return figure(drawn, f"results_{name}_epochs", EPOCHS)


# Titles of what `epochs_figure` draws.
NOVEL = {
    "azimuth": "Novel azimuths",
    "elevation": "Novel elevations",
    "digits": "Transformed digits (novel)",
}
EPOCHS = (
    "Error on novel against familiar images after each epoch, for seed 0. The stars "
    "are the epochs that the table compares. Lower is better at equal familiar error."
)


# Functions that add lines for a run after the table of errors.
BESIDE = {
    "mnist_attacks": attack_table,
    "toys_attacks": attack_table,
    "toys_mistakes": mistake_table,
    "azimuth": epochs_figure,
    "elevation": epochs_figure,
    "eth80_azimuth": epochs_figure,
    "eth80_elevation": epochs_figure,
    "aff_mnist": epochs_figure,
}


def section(name):
    """Returns the section of a table in docs/results.md."""
    table = TABLES[name]
    lines = error_table(table, name) if table.rows else []
    if table.routing:
        lines += routing_table(table.rows)
    rows = {row.run for row in table.rows}
    found = {run: kept(run) for run in table.runs}
    for run in table.runs:
        if run in BESIDE and found[run]:
            lines += BESIDE[run](run, found[run][0])
        elif run in BESIDE and run not in rows:  # otherwise its rows say so
            lines += ["", f"{run}: not run here"]
    shown = rows | BESIDE.keys() & {*table.runs}
    where = machines(metrics for run in shown for metrics in found[run])
    seeds = {found[run][0].get("seed", 0) for run in shown if found[run]}
    flag = f" --seed {seeds.pop()}" if len(seeds) == 1 and 0 not in seeds else ""
    # ETH-80 has no default folder.
    data = " --data-dir FOLDER" if name == "eth80" else ""
    commands = [
        command_of(run, runs[0].get("seed", 0) if runs else 0, FOLDER) + data
        for run, runs in found.items()
    ]
    command = f"python -m experiments.reproduce {name}{flag}{data}"
    return "\n".join(lines + origin(command, where, commands))


def write_page(shown=None):
    """Writes the tables between their marks in docs/results.md.

    Args:
        shown: name of a table that is also printed; by default none.
    """
    sections = pages.write_page(PAGE, TABLES, section)
    if shown:
        print(f"\n{sections[shown]}")
    print(f"\n{PAGE} is made from {RESULTS}/*.json")


parser = parser_of(__doc__)
parser.add_argument(
    "table", nargs="?", choices=TABLES, help="default: only update the page"
)
parser.add_argument("--seed", type=natural, default=0)
parser.add_argument("--data-dir", help="folder of TensorFlow Datasets, or of ETH-80")
parser.add_argument("--folder", type=Path, default=FOLDER, help="folder of the runs")

if __name__ == "__main__":
    args = parser.parse_args()
    if args.table == "mnist_ensemble" and args.seed:
        parser.error("mnist_ensemble has the networks of all seeds: leave out --seed")
    options = ["--data-dir", args.data_dir] if args.data_dir else []
    read_page(PAGE, TABLES)  # reports a missing page before hours of training
    if args.table:
        for name in TABLES[args.table].runs:
            train(name, args.seed, args.folder, options)
    write_page(args.table)
