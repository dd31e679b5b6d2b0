import signal
import subprocess
import sys
import threading
from contextlib import suppress

import pytest
from helpers import once

from keras_capsules.callbacks import interruptions

# The file alone: Keras would take seconds.
PROGRAM = """
import importlib.util, os, signal, sys, time
signal.signal(signal.SIGINT, signal.{before})
spec = importlib.util.spec_from_file_location("interruptions", {file!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module._GRACE = 0.1
module.exit_cleanly("go on with --resume.")
def come(number=signal.SIGINT):
    signal.raise_signal(number)
def fit(*steps):
    for step in steps:
        step()
{body}
"""
pytestmark = once


def run(body, before="default_int_handler"):
    program = PROGRAM.format(file=interruptions.__file__, before=before, body=body)
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    return result.returncode, result.stderr


@pytest.mark.parametrize(
    ("body", "code", "line"),
    [
        ("come()", 130, "Stopped: go on with --resume."),
        ("come(signal.SIGTERM)", 143, "Stopped: go on with --resume."),
        (
            "module.begin_training()\nfit(come)\nmodule.stop_if_asked(3)",
            130,
            "Stopped after 3 finished epochs: go on with --resume.",
        ),
        ("module.begin_training()\nfit(come, come)", 130, "Stopped: go on with"),
        # A training that an error has ended.
        ("module.begin_training()\ncome()", 130, "Stopped: go on with"),
        # Two signals during a save.
        (
            "def save():\n  with module.signals_wait():\n    come()\n    come()\n"
            "    print('waits', file=sys.stderr)\nmodule.begin_training()\nfit(save)",
            130,
            "Stopped: go on with",
        ),
        (
            "module.begin_training()\nmodule.end_training()\ncome()",
            130,
            "Stopped: go on with",
        ),
        # A library that catches everything; the script is soon over.
        (
            "def library():\n  try: come()\n  except: pass\nlibrary()",
            130,
            "Stopped: go on",
        ),
        ("def cleans_up():\n  try: come()\n  finally: pass\ncleans_up()", 130, "Stop"),
        # A library that catches everything, and goes on for long.
        ("try:\n  come()\nexcept:\n  pass\ntime.sleep(60)", 130, "Stopped: go on"),
        (
            "class Lost:\n  def __del__(self): come()\nLost()\ntime.sleep(60)",
            130,
            "Stopped: go on",
        ),
        (
            "try:\n  come()\nexcept BaseException:\n  raise RuntimeError('late')",
            130,
            "Stopped: go on",
        ),
        ("open('/nowhere/at all')", 1, "Stopped: [Errno 2] No such file or directory"),
    ],
)
def test_one_line_and_the_exit_code(body, code, line):
    found, errors = run(body)
    assert found == code, errors
    assert errors.startswith(f"\n{line}") and errors.count("\n") == 2


def test_an_error_of_the_program_has_its_traceback():
    code, errors = run("1 / 0")
    assert code == 1 and "Traceback" in errors and "ZeroDivisionError" in errors


def test_while_nothing_comes_nothing_stops():
    assert run("module.stop_if_asked(1)") == (0, "")


def test_a_signal_that_is_ignored_stays_so():
    assert run("come()", before="SIG_IGN") == (0, "")


def test_signals_wait_for_a_save_that_catches_everything():
    done = []
    with pytest.raises(KeyboardInterrupt), interruptions.signals_wait():
        with suppress(BaseException):  # as Keras does
            signal.raise_signal(signal.SIGINT)
        done.append("saved")
    assert done == ["saved"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_signal_does_not_wait():
    with pytest.raises(KeyboardInterrupt), interruptions.signals_wait():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("it waited")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_another_thread_has_no_signals():
    found = []

    def work():
        handler = signal.getsignal(signal.SIGINT)
        with interruptions.signals_wait():
            found.append(signal.getsignal(signal.SIGINT) is handler)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [True]
