"""Runs a table of docs/results.md again and writes what it finds there.

    python -m experiments.reproduce mnist
    python -m experiments.reproduce mnist --seed 1
    python -m experiments.reproduce

tables.py says what is run. Each run has a folder in `--folder`, and its metrics.json,
with the command and the machine, becomes a file in results/; the tables and figures of
docs/results.md are made from these files. Without a table only the page is made. Stop
it whenever you like: the same command goes on after the last finished epoch.
"""

import json
import re
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.measure import machine
from experiments.matching import epochs
from experiments.runs import natural, parser_of, write_json
from experiments.tables import MISTAKEN, RUNS, TABLES
from keras_capsules import plotting

RESULTS, PAGE = Path("results"), Path("docs/results.md")
IMAGES = Path("docs/images")
FOLDER = Path("runs/results")
# Whose errors a table has.
NUMBERS = "ours", "paper", "best open code"


def key_of(name, seed):
    """The name of a run with this seed."""
    return f"{name}_seed{seed}" if seed else name


def command_of(name, seed, folder):
    """The command of a run, where `folder` has all runs, those of the same seed."""
    folders = {run: folder / key_of(run, seed) for run in RUNS}
    return RUNS[name].format_map(folders)


def train(name, seed, folder, options):
    """Runs what `tables.RUNS` says, or goes on with it, and keeps its results."""
    key = key_of(name, seed)
    command = command_of(name, seed, folder)
    output = folder / key
    begun = output / "begun.json"
    try:
        output.mkdir(parents=True, exist_ok=True)
        fresh = not any(output.iterdir())
        kept = {"command": command} if fresh else json.loads(begun.read_text())
    except (OSError, ValueError) as error:
        sys.exit(f"Can't use --folder {folder}: {error}")
    if kept["command"] != command:
        sys.exit(
            f"Can't go on with {output}: it was made by {kept['command']!r}. "
            f"Expected: {command!r}. Remove it, or choose another --folder"
        )

    _, *arguments = shlex.split(command)
    networks = [Path(flag) for flag in arguments if flag.endswith(".keras")]
    metrics = output / "metrics.json"
    if not is_up_to_date(metrics, networks):
        kept |= {"seed": seed, "machine": machine()}
        write_json(begun, kept)
        print(f"\n{key}: {command}", flush=True)
        trained = [] if networks else ["--seed", str(seed), "--resume"]
        arguments += [*trained, "--output", str(output), *options]
        process = subprocess.Popen([sys.executable, *arguments])
        try:
            code = process.wait()
        except KeyboardInterrupt:
            code = process.wait() or 130  # a run is stopped too, and says how to go on
        if code:
            sys.exit(code)
    RESULTS.mkdir(exist_ok=True)
    write_json(RESULTS / f"{key}.json", kept | json.loads(metrics.read_text()))


def is_up_to_date(metrics, networks):
    """Whether metrics are there and not older than the networks."""
    return metrics.exists() and all(
        network.stat().st_mtime <= metrics.stat().st_mtime
        for network in networks
        if network.exists()
    )


def results_of(name):
    """What is kept of a run, with each of its seeds.

    A file that was renamed, say to NAME_seed0_jax.json, is kept beside a new NAME.json.
    """
    paths = [RESULTS / f"{name}.json", *sorted(RESULTS.glob(f"{name}_seed*.json"))]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def at(metrics, path):
    for name in filter(None, path.split(".")):
        metrics = metrics[name]
    return metrics


def line(cells):
    return f"| {' | '.join(cells)} |"


def head(first, *columns):
    """The first two lines of a table; all columns but the first are numbers."""
    return [line([first, *columns]), line(["---", *["---:"] * len(columns)])]


def published(error):
    """An error as papers write it: of less than 1 % with two decimals."""
    if error is None:
        return "–"
    return f"{error:.2f}" if error < 1.0 else f"{error:g}"


def error_table(table, name):
    """The lines of a table of errors and its figure."""
    columns = "seeds", "parameters", "epochs", "minutes"
    lines, points = head("error in %", *NUMBERS, *columns), []
    for row in table.rows:
        networks = [at(metrics, row.network) for metrics in results_of(row.run)]
        ours = [100.0 * at(network, row.value) for network in networks]
        found = ", ".join(f"{error:.2f}" for error in ours)
        if len(ours) > 2:
            spread = statistics.stdev(ours)
            found += f" ({statistics.mean(ours):.2f} ± {spread:.2f})"
        cells = [row.label, found or "not run here"]
        cells += [published(row.paper), published(row.best_open)]
        if networks:
            minutes = (network["seconds"] / 60 for network in networks)
            first = networks[0]
            cells += [
                ", ".join(str(network["seed"]) for network in networks),
                f"{first['parameters']:,}",
                str(first["epochs"]),
                ", ".join(f"{time:.0f}" for time in minutes),
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
        # A row without any number would be an empty line of the figure.
        drawn = [point for point in points if any(map(point.get, NUMBERS))]
        lines += figure(plotting.errors(drawn), f"results_{name}", "Errors")
    return lines


def attack_table(name, metrics):
    """The lines of a table of accuracies under attack and its figure."""
    accuracy = metrics["accuracy"]
    columns = {
        f"{attack}, {model}": {
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
    return lines + figure(drawn, f"results_{name}", "Accuracy against epsilon")


def mistake_table(name, metrics):
    """The lines of a table of the toys that are mistaken most, and of the others."""
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


def epochs_figure(name, metrics):
    """The lines of a figure of the epochs of networks that are compared."""
    compared = {"digits": metrics} if "cnn" in metrics else metrics
    panels = {
        what: epochs(compared[what])
        for what in ("azimuth", "elevation", "digits")
        if what in compared
    }
    drawn = plotting.viewpoint_errors(panels)
    text = "Error on novel against familiar images, a dot for each epoch"
    return figure(drawn, f"results_{name}_epochs", text)


# What a run has beside its rows.
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


def figure(drawn, name, text):
    IMAGES.mkdir(parents=True, exist_ok=True)
    drawn.savefig(IMAGES / f"{name}.png")
    return ["", f"![{text}](images/{name}.png)"]


def section(name):
    """What stands in docs/results.md of a table."""
    table = TABLES[name]
    lines = error_table(table, name) if table.rows else []
    rows = {row.run for row in table.rows}
    for run in table.runs:
        if run in BESIDE:
            kept = results_of(run)
            if kept:
                lines += BESIDE[run](run, kept[0])
            elif run not in rows:  # else they say so
                lines += ["", f"{run}: not run here"]
    shown = rows | BESIDE.keys() & {*table.runs}
    machines = {
        ", ".join(
            [
                *found.get("gpus", []),
                f"{found['cores']} cores of {found['processor']}",
                found["backend"],
            ]
        )
        for run in shown
        for metrics in results_of(run)
        for found in [metrics["machine"]]
    }
    seeds = {
        kept[0].get("seed", 0) for run in shown for kept in [results_of(run)] if kept
    }
    flag = f" --seed {seeds.pop()}" if len(seeds) == 1 and 0 not in seeds else ""
    # ETH-80 has no default folder.
    where = " --data-dir FOLDER" if name == "eth80" else ""
    lines += ["", f"`python -m experiments.reproduce {name}{flag}{where}`"]
    lines[-1] += f" ({'; '.join(sorted(machines))}) runs" if machines else " runs"
    commands = [
        command_of(run, kept[0].get("seed", 0) if kept else 0, FOLDER) + where
        for run in table.runs
        for kept in [results_of(run)]
    ]
    lines += ["", "```", *commands, "```"]
    return "\n".join(lines)


def marks(name):
    """What stands in docs/results.md before and behind a table."""
    return f"<!-- {name} -->", f"<!-- end of {name} -->"


def read_page():
    """The page, which has the marks of all tables."""
    try:
        page = PAGE.read_text()
    except OSError as error:
        sys.exit(f"Can't read {PAGE}, from the root of the repository: {error}")
    for name in TABLES:
        for mark in marks(name):
            if mark not in page:
                sys.exit(f"{PAGE} has no {mark}")
    return page


def write_page(shown=None):
    """Puts the tables between the marks that docs/results.md has for them.

    Args:
        shown: name of the table that is printed too.
    """
    page = read_page()
    for name in TABLES:
        mark, end = marks(name)
        found = section(name)
        if name == shown:
            print(f"\n{found}")
        new = f"{mark}\n{found}\n{end}"
        page = re.sub(f"{mark}.*?{end}", lambda _, new=new: new, page, flags=re.DOTALL)
    PAGE.write_text(page)
    print(f"\n{PAGE} is made from {RESULTS}/*.json")


parser = parser_of(__doc__)
parser.add_argument("table", nargs="?", choices=TABLES, help="without one: the page")
parser.add_argument("--seed", type=natural, default=0)
parser.add_argument("--data-dir", help="folder of TensorFlow Datasets, or of ETH-80")
parser.add_argument("--folder", type=Path, default=FOLDER, help="where the runs are")

if __name__ == "__main__":
    args = parser.parse_args()
    options = ["--data-dir", args.data_dir] if args.data_dir else []
    read_page()  # that it can't be written is known before hours of training
    if args.table:
        for name in TABLES[args.table].runs:
            train(name, args.seed, args.folder, options)
    write_page(args.table)
