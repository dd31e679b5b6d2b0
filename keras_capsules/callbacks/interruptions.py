"""How a training and a script are stopped: where nothing is half done."""

import atexit
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_GRACE = 5.0  # seconds

_hint = ""
_training = False
_received = None  # the signal that waits for the next batch
_stopping = None  # the SystemExit that ends the script


def exit_cleanly(hint: str = "") -> None:
    """Makes a script end with one line, no traceback, when it is interrupted.

    Ctrl-C ends it with exit code 130, SIGTERM with 143. `fit` with a
    `callbacks.Checkpoint` stops before the next batch, so that no save is broken off;
    everything else stops at once, and so does `fit` at the second signal. An
    `OSError` that nothing catches, of a full disk for example, ends the script with
    its message and exit code 1.

    Call it at the top of a script, in its main thread: signals come to no other.
    A signal that is ignored, as by `nohup`, stays so.

    Args:
        hint: how to go on, printed behind what ended the script.

    Example:

    ```python
    callbacks.exit_cleanly("--resume goes on from the last finished epoch.")
    ```
    """
    global _hint
    _hint = hint
    sys.excepthook = _print_error
    for number in _handled(_SIGNALS):
        signal.signal(number, _on_signal)
    atexit.register(_at_exit)


@contextmanager
def signals_wait() -> Iterator[None]:
    """Within it Ctrl-C and SIGTERM wait, unless they come twice.

    Keras catches a `KeyboardInterrupt` while it saves, and would go on.
    """
    received = []
    handlers = {number: signal.getsignal(number) for number in _handled(_SIGNALS)}
    handlers = {number: x for number, x in handlers.items() if callable(x)}

    def keep(number, frame):
        received.append(number)
        if len(received) > 1:
            handlers[number](number, frame)

    for number in handlers:
        signal.signal(number, keep)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if signal.getsignal(number) is keep:
                signal.signal(number, handler)
        if len(received) == 1:
            signal.raise_signal(received[0])


def begin_training() -> None:
    """From now on a signal waits for `stop_if_asked`, if a script exits cleanly."""
    global _training
    _training = True


def end_training() -> None:
    """From now on a signal ends a script that exits cleanly at once."""
    global _training
    _training = False


def stop_if_asked(epochs: int) -> None:
    """Ends a script that exits cleanly, if a signal waits.

    Args:
        epochs: how many are finished.
    """
    if _received is not None:
        _stop(_received, f" after {epochs} finished epoch{'s' * (epochs != 1)}")


def _handled(signals):
    """Those of the signals that may have a handler of ours."""
    if threading.current_thread() is not threading.main_thread():
        return []
    return [x for x in signals if signal.getsignal(x) is not signal.SIG_IGN]


def _on_signal(number, frame):
    global _received
    if _training and _received is None:
        _received = number
    else:
        _stop(number)


def _stop(number, when=""):
    global _stopping
    _end_at_once()
    line = f"\nStopped{when}{': ' if _hint else '.'}{_hint}\n"
    os.write(2, line.encode())  # print can't interrupt another print
    code = 128 + number
    # An exception that is lost, as in a `__del__`, or becomes another one must not keep
    # the script alive, nor must a library that catches every exception.
    sys.excepthook = sys.unraisablehook = lambda *_: _exit(code)
    timer = threading.Timer(_GRACE, _exit, (code,))
    timer.daemon = True
    timer.start()
    _stopping = SystemExit(code)
    raise _stopping


def _at_exit():
    # The end of the interpreter is no place for exceptions.
    _end_at_once()
    # Where a library catches every exception the script goes on, perhaps to its end.
    if _stopping is not None and _stopping.__traceback__.tb_frame.f_back is not None:
        _exit(_stopping.code)


def _exit(code):
    with suppress(Exception):
        sys.stdout.flush()
    os._exit(code)


def _end_at_once():
    for number in _handled(_SIGNALS):
        signal.signal(number, signal.SIG_DFL)


def _print_error(kind, error, trace):
    if issubclass(kind, OSError):
        print(f"\nStopped: {error}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)
