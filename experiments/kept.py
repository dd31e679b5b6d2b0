"""Runs commands and stores their results, with the command and the machine."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

from benchmarks.measure import machine
from experiments.runs import write_json


def key_of(name, seed):
    """Returns the name of a run with a seed."""
    return f"{name}_seed{seed}" if seed else name


def keep(name, command, seed, folder, results, options=()):
    """Runs or continues a command, and stores its metrics.json in `results`.

    Args:
        name: name of the run. A seed above 0 is appended to the names of its folder and
            of its file.
        command: the command, `python …`.
        seed: seed of the run, passed to trainings as `--seed`.
        folder: parent folder of the run.
        results: folder of the stored results.
        options: additional flags, which are not stored.
    """
    key = key_of(name, seed)
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
            code = process.wait() or 130  # Ctrl-C reaches the run, too
            print(f"The same command goes on with {key}.", flush=True)
        if code:
            sys.exit(code)
    else:
        print(f"{key} is finished. To run it again, remove {output}.", flush=True)
    results.mkdir(parents=True, exist_ok=True)
    write_json(results / f"{key}.json", kept | json.loads(metrics.read_text()))


def is_up_to_date(metrics, networks):
    """Returns whether the metrics exist and are not older than the networks."""
    return metrics.exists() and all(
        network.stat().st_mtime <= metrics.stat().st_mtime
        for network in networks
        if network.exists()
    )


def results_of(name, results):
    """Returns the stored results of a run, for each of its seeds.

    To keep old results beside a new NAME.json, rename their file, for example to
    NAME_seed0_jax.json.
    """
    paths = [results / f"{name}.json", *sorted(results.glob(f"{name}_seed*.json"))]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def machines(kept):
    """Returns the machines that the results come from, as text."""
    found = {
        ", ".join(
            [
                *where.get("gpus", []),
                f"{where['cores']} core{'s' * (where['cores'] != 1)} of "
                f"{where['processor']}",
                where["backend"],
            ]
        )
        for metrics in kept
        for where in [metrics["machine"]]
    }
    return "; ".join(sorted(found))
