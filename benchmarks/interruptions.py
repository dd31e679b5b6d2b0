"""Stops trainings at random times and checks that nothing is lost.

    python -m benchmarks.interruptions --kills 30 --interrupts 30

Each training of examples/train_capsnet.py resumes the previous one for three more
epochs, and is stopped while it reads data, trains, saves, tests, draws or exports.
Afterwards the history must begin with the previous history, and every file must load.
Ctrl-C must print one line and end with exit code 130. The operating system must support
fork.
"""

import argparse
import json
import os
import random
import runpy
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras

# They are imported here so that the forked trainings need not import them again.
import matplotlib.pyplot  # noqa: F401
import sklearn.datasets  # noqa: F401
import tensorflow as tf

from keras_capsules import models
from keras_capsules.callbacks import Checkpoint

SCRIPT = Path(__file__).parents[1] / "examples" / "train_capsnet.py"
OPTIONS = ("--limit", "64", "--batch-size", "16", "--variant", "small")
SMALL = {
    "filters": 4,
    "kernel_size": 5,
    "primary_capsules": 2,
    "primary_pose_shape": 4,
    "class_pose_shape": 6,
    "decoder_units": (8,),
}
EPOCHS = 3  # of each training


def start(log, function):
    """Runs a function in a forked process.

    The process needs no time for imports, and ends as a script does.

    Args:
        log: path of a file for the output of the process.
        function: the function, without arguments.

    Returns:
        The process id.
    """
    process = os.fork()
    if process == 0:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        function()
        sys.exit()
    return process


def end(process):
    """Waits for a process; returns its exit code, negative if a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def train():
    models.CapsNet.variants = {"small": SMALL}
    epochs = len(Checkpoint.history_of("run")) + EPOCHS
    sys.argv = [str(SCRIPT), *OPTIONS, "--output", "run", "--resume"]
    sys.argv += ["--epochs", str(epochs)]
    sys.stdout.reconfigure(line_buffering=True)
    runpy.run_path(str(SCRIPT), run_name="__main__")


def load_everything():
    """Loads all files of the training, and raises an error if one is damaged."""
    history = Checkpoint.history_of("run")
    run, exported = Path("run"), Path("saved_models/run")
    for path in (*run.glob("*.json"), *run.glob("*.keras"), *exported.glob("*.keras")):
        if path.suffix == ".json":
            json.loads(path.read_text())
        else:
            keras.saving.load_model(path)
    if history:
        checkpoint = Checkpoint("run")
        checkpoint.history = history
        checkpoint._begin()  # raises if best.keras is from no epoch of the history
        checkpoint.on_train_end()
    for path in exported.glob("1"):
        tf.saved_model.load(str(path))


def unfinished():
    """Returns the unfinished files, including those of killed processes."""
    return {str(path) for path in Path().glob("*/**/unfinished-*")}


def faults_of(log, code, number, before, left):
    """Yields a description of each fault after a training was stopped.

    Args:
        log: path of the file with the output of the training.
        code: exit code of the training.
        number: signal that was sent.
        before: history before the training.
        left: unfinished files before the training; the next save or export removes
            them.
    """
    text = log.read_text()
    expected = -number if number == signal.SIGKILL else 128 + number
    if code != expected:
        yield f"exit code {code}, expected {expected}"
    if number != signal.SIGKILL and text.count("\nStopped") != 1:
        yield f"{text.count(chr(10) + 'Stopped')} lines say that it stopped"
    if "Traceback" in text or "Exception ignored" in text:
        yield f"a traceback:\n{text[-3000:]}"
    history = Checkpoint.history_of("run")
    if json.dumps(history[: len(before)]) != json.dumps(before):
        yield f"the history had {len(before)} epochs and has {len(history)}"
    if number != signal.SIGKILL and unfinished() - left:
        yield "unfinished files"
    if end(start("load.log", load_everything)):
        yield f"files that can't be loaded:\n{Path('load.log').read_text()}"


def stop(number, after):
    """Trains, stops the training, and checks its files.

    Args:
        number: the signal.
        after: seconds from the start to the signal.

    Returns:
        The last output of the training, and a list of the faults; `None` if the script
        had not begun, or was over.
    """
    before, left = Checkpoint.history_of("run"), unfinished()
    log = Path("train.log")
    process = start(log, train)
    time.sleep(after)
    where = (log.read_text().strip().splitlines() or ["at the start"])[-1]
    where = where.split("\r")[-1].strip("\b ")[:40]
    if log.read_text().count("\n       exported  "):  # the last line of the script
        end(process)
        return None
    os.kill(process, number)
    code = end(process)
    if code == -signal.SIGINT:  # the script had not begun, or was over
        return None
    return where, [*faults_of(log, code, number, before, left)]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--interrupts", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    moments = random.Random(args.seed)
    signals = [signal.SIGKILL] * args.kills + [signal.SIGINT] * args.interrupts
    moments.shuffle(signals)

    folder = tempfile.mkdtemp()  # not removed automatically, as a fork would do it, too
    os.chdir(folder)
    begun = time.perf_counter()
    if end(start("train.log", train)):
        sys.exit(Path("train.log").read_text())
    seconds = time.perf_counter() - begun
    print(f"A whole training takes {seconds:.1f} s.", flush=True)
    failed = 0
    for count, number in enumerate(signals):
        found = None
        while found is None:
            after = moments.uniform(0.5, seconds)
            found = stop(number, after)
        where, faults = found
        failed += bool(faults)
        epochs = len(Checkpoint.history_of("run"))
        print(
            f"{count + 1:>3} {number.name:8} after {after:5.1f} s at {where:40} "
            f"{epochs:>4} epochs  {'; '.join(faults) or 'nothing lost'}",
            flush=True,
        )
    code = end(start("train.log", train))
    print(f"The last training ended with exit code {code}.")
    print(f"{len(signals) - failed} of {len(signals)} were stopped correctly.")
    shutil.rmtree(folder)
    sys.exit(bool(failed or code))


if __name__ == "__main__":
    main()
