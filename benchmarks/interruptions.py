"""Stops trainings at random moments and looks whether anything is lost.

    python -m benchmarks.interruptions --kills 30 --interrupts 30

Each training of examples/train_capsnet.py goes on with the one before, by --resume,
for three more epochs, and is stopped while it reads data, trains, saves, tests, draws
or exports. Afterwards the history has to begin as it did before and every file has to
load; Ctrl-C has to end in one line with exit code 130. It needs a system that forks.
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

# Every training would import them anew.
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
    """Runs a function in a process that has imported everything already.

    Args:
        log: file of what it prints.
        function: called in the process, which then ends as a script does.

    Returns:
        The number of the process; 0 in the process itself.
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
    """Waits for a process; its exit code, below 0 if a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def train():
    models.CapsNet.variants = {"small": SMALL}
    epochs = len(Checkpoint.history_of("run")) + EPOCHS
    sys.argv = [str(SCRIPT), *OPTIONS, "--output", "run", "--resume"]
    sys.argv += ["--epochs", str(epochs)]
    sys.stdout.reconfigure(line_buffering=True)
    runpy.run_path(str(SCRIPT), run_name="__main__")


def load_everything():
    """Loads what is there; an exception says what can't be."""
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
        checkpoint._begin()  # raises if best.keras is no epoch of the history
        checkpoint.on_train_end()
    for path in exported.glob("1"):
        tf.saved_model.load(str(path))


def unfinished():
    """What is not finished, or was not when its process was killed."""
    return {str(path) for path in Path().glob("*/**/unfinished-*")}


def faults_of(log, code, number, before, left):
    """What is wrong after a training was stopped, in words.

    Args:
        log: file of what it printed.
        code: what it ended with.
        number: the signal that was sent.
        before: the history before it began.
        left: what was unfinished then; the next save or export removes it.
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
    """Trains, stops the training, and looks at what it left.

    Args:
        number: the signal.
        after: seconds from the start to the signal.

    Returns:
        Where it was stopped and what is wrong; `None` if the script had not begun, or
        was over.
    """
    before, left = Checkpoint.history_of("run"), unfinished()
    log = Path("train.log")
    process = start(log, train)
    time.sleep(after)
    where = (log.read_text().strip().splitlines() or ["at the start"])[-1]
    where = where.split("\r")[-1].strip("\b ")[:40]
    if log.read_text().count("\n       exported  "):  # its last words
        end(process)
        return None
    os.kill(process, number)
    code = end(process)
    if code == -signal.SIGINT:  # which the script handles from its beginning to its end
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

    folder = tempfile.mkdtemp()  # which a process that was forked must not remove
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
    print(f"{len(signals) - failed} of {len(signals)} were stopped as they should.")
    shutil.rmtree(folder)
    sys.exit(bool(failed or code))


if __name__ == "__main__":
    main()
