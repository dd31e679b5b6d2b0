"""Runs scripts as a user does, with networks that every backend trains quickly."""

import faulthandler
import io
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from unittest import mock

import keras

from keras_capsules import callbacks

SECONDS = 300
ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
# Experiments run from the root; tests run them in folders of their own.
ENVIRONMENT = {
    **os.environ,
    # A crash of a library prints where it happened.
    "PYTHONFAULTHANDLER": "1",
    "PYTHONPATH": os.pathsep.join(
        [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    ),
}

_PROGRAM = """
import functools, os, runpy, sys

def make_networks_small():
    from keras_capsules import models

    small = dict(
        filters=4, kernel_size=5, primary_capsules=2, primary_pose_shape=4,
        class_pose_shape=6, decoder_units=(8,))
    models.CapsNet.variants = dict.fromkeys(models.CapsNet.variants, small)
    models.MatrixCapsNet.variants = dict.fromkeys(
        models.MatrixCapsNet.variants, (6, 2, 3, 3))
    models.BaselineCNN = functools.partial(models.BaselineCNN, filters=(4, 4), units=8)

# A process that only watches another one has no use for Keras.
if {script!r} != "train_distributed.py" or "KERAS_CAPSULES_WATCHED" in os.environ:
    make_networks_small()
{before}
{run}
"""


def command(script, *options, before=""):
    """What starts a script.

    Args:
        script: an example by the name of its file, or an experiment by the name of
            its module.
        *options: what stands behind it.
        before: lines that run before it.
    """
    if script.endswith(".py"):
        start = f"runpy.run_path({str(EXAMPLES / script)!r}, run_name='__main__')"
    else:
        start = f"runpy.run_module({script!r}, run_name='__main__', alter_sys=True)"
    program = _PROGRAM.format(script=script, before=before, run=start)
    return [sys.executable, "-u", "-c", program, *options]


def run(folder, script, *options, before=""):
    """Runs a script in a folder to its end; what it printed, errors apart."""
    *_, program = command(script, before=before)
    return python(folder, program, *options)


# Each process of `python` is a copy of one with these modules. This saves the seconds
# of their imports.
_copies = multiprocessing.get_context("forkserver")
_copies.set_forkserver_preload(["keras", "matplotlib.pyplot", "tensorflow"])


def python(folder, program, *options):
    """Runs a program in a new process to its end, as `python -c` does.

    Args:
        folder: where it runs.
        program: its text.
        *options: its arguments.

    Returns:
        The code with which it ended, what it printed, and its errors.
    """
    with TemporaryDirectory() as printed:
        streams = [Path(printed, name) for name in ("stdout", "stderr")]
        arguments = folder, program, options, streams
        process = _copies.Process(target=_run, args=arguments)
        process.start()
        process.join(SECONDS)
        late = process.is_alive()
        process.kill()
        process.join()
        stdout, stderr = (path.read_text() for path in streams)
    if late:
        raise subprocess.TimeoutExpired(program, SECONDS, stdout, stderr)
    return SimpleNamespace(returncode=process.exitcode, stdout=stdout, stderr=stderr)


def _run(folder, program, options, streams):
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(ENVIRONMENT)
    for stream, path in zip((sys.stdout, sys.stderr), streams, strict=True):
        with path.open("w") as file:
            os.dup2(file.fileno(), stream.fileno())
        stream.reconfigure(write_through=True)
    faulthandler.enable()
    sys.argv = ["-c", *options]
    try:
        exec(program, {"__name__": "__main__"})
    except Exception:  # the interpreter calls the hook too, multiprocessing does not
        sys.excepthook(*sys.exc_info())
        sys.exit(1)


def refused(folder, script, *options):
    """Runs a script that refuses its arguments or files, within this process.

    This saves the seconds of the imports.

    Args:
        folder: where it runs.
        script: as for `command`.
        *options: what stands behind it.
    """
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
    here = os.getcwd()
    on_ctrl_c = signal.getsignal(signal.SIGINT)
    begun = AssertionError("the training has begun")
    os.chdir(folder)
    try:
        with (
            mock.patch.object(sys, "argv", [script, *options]),
            mock.patch.dict(os.environ),
            mock.patch.object(callbacks, "exit_cleanly"),
            mock.patch.object(keras.Model, "fit", side_effect=begun),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            if script.endswith(".py"):
                runpy.run_path(str(EXAMPLES / script), run_name="__main__")
            else:
                runpy.run_module(script, run_name="__main__", alter_sys=True)
        raise AssertionError(f"{script} has run to its end")
    except SystemExit as end:
        code = end.code
    finally:
        os.chdir(here)
        signal.signal(signal.SIGINT, on_ctrl_c)
    if isinstance(code, str):  # as the interpreter does
        print(code, file=err)
        code = 1
    for stream in (out, err):
        stream.seek(0)
    return SimpleNamespace(returncode=code, stdout=out.read(), stderr=err.read())


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
            env={**ENVIRONMENT, **environment},
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
