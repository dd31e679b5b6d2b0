"""Runs the examples as a user does, with networks that every backend trains quickly."""

import importlib
import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

SECONDS = 300
EXAMPLES = f"{Path(__file__).parents[1] / 'examples'}/"

_PROGRAM = """
import functools, os, runpy, sys
sys.path.insert(0, {examples!r})

def make_networks_small():
    from keras_capsules import models

    network = models.MatrixCapsNet
    models.MatrixCapsNet = lambda image_shape, classes, config, **kwargs: network(
        image_shape, classes, (6, 2, 3, 3), **kwargs)
    models.CapsNet = functools.partial(
        models.CapsNet, filters=4, kernel_size=5, primary_capsules=2,
        primary_pose_shape=4, class_pose_shape=6, decoder_units=(8,))
    models.BaselineCNN = functools.partial(models.BaselineCNN, filters=(4, 4), units=8)

# A process that only watches another one has no use for Keras.
if {script!r} != "train_distributed.py" or "KERAS_CAPSULES_WATCHED" in os.environ:
    make_networks_small()
{before}
runpy.run_path({examples!r} + {script!r}, run_name="__main__")
"""


def module(name):
    """An example as a module, to test its functions."""
    if EXAMPLES not in sys.path:
        sys.path.append(EXAMPLES)
    return importlib.import_module(name)


def command(script, *options, before=""):
    """What starts a script.

    Args:
        script: name of its file.
        *options: what stands behind it.
        before: lines that run before it.
    """
    program = _PROGRAM.format(examples=EXAMPLES, script=script, before=before)
    return [sys.executable, "-u", "-c", program, *options]


def run(folder, script, *options, before=""):
    """Runs a script in a folder to its end; what it printed, errors apart."""
    return subprocess.run(
        command(script, *options, before=before),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


@contextmanager
def free_port():
    """A port that nobody else is given, though a server can use it."""
    with socket.socket() as reservation:
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reservation.bind(("localhost", 0))
        yield reservation.getsockname()[1]


@contextmanager
def started(folder, *commands, environments=None):
    """Processes that run at the same time; none is left behind or runs for ever.

    Args:
        folder: where they run.
        *commands: what starts each of them.
        environments: more environment variables of each of them.
    """
    group = [
        subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command, environment in zip(
            commands, environments or [{}] * len(commands), strict=True
        )
    ]
    timer = threading.Timer(SECONDS, lambda: [process.kill() for process in group])
    timer.start()
    try:
        yield group
    finally:
        timer.cancel()
        for process in group:
            process.kill()
            process.communicate()
