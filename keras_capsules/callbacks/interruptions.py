"""Handling of Ctrl-C and SIGTERM, so that no save is interrupted."""

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
    """Makes an interrupted script print one line instead of a traceback.

    Ctrl-C ends the script with exit code 130, SIGTERM with 143. During `fit` with a
    `callbacks.Checkpoint` the script ends before the next batch, so that no save is
    interrupted. Otherwise, and at a second signal, it ends at once. An uncaught
    `OSError`, for example of a full disk, ends the script with the error message and
    exit code 1.

    Call the function at the top of a script, in the main thread, as only this thread
    receives signals. A signal that is ignored, as with `nohup`, is still ignored.

    Args:
        hint: a text that is printed when a signal ends the script, such as how to
            resume the training. By default there is none.

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
    """Delays Ctrl-C and SIGTERM to the end of a `with` block.

    A second signal takes effect at once. Without the delay, Keras would catch a
    `KeyboardInterrupt` while it saves, and the training would continue.
    """
    received = []
    handlers = {number: signal.getsignal(number) for number in _handled(_SIGNALS)}
    handlers = {number: x for number, x in handlers.items() if callable(x)}

    def keep(number, frame):
        received.append(number)
        if len(received) == 2:  # the first one may only ask a training to stop
            handlers[received[0]](received[0], frame)
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
    """Delays signals to the next `stop_if_asked`, if `exit_cleanly` was called."""
    global _training
    _training = True


def end_training() -> None:
    """Makes signals end the script at once again, if `exit_cleanly` was called."""
    global _training
    _training = False


def stop_if_asked(epochs: int) -> None:
    """Ends the script if a delayed signal was received.

    Args:
        epochs: number of finished epochs, for the message.
    """
    if _received is not None:
        _stop(_received, f" after {epochs} finished epoch{'s' * (epochs != 1)}")


def _handled(signals):
    """Returns the signals that are not ignored; none outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return []
    return [x for x in signals if signal.getsignal(x) is not signal.SIG_IGN]


def _on_signal(number, frame):
    global _received
    if _training and _received is None and _is_in_fit(frame):
        _received = number
    else:
        _stop(number)


def _is_in_fit(frame):
    # An error can end `fit` without a call of `end_training`.
    while frame is not None and frame.f_code.co_name != "fit":
        frame = frame.f_back
    return frame is not None


def _stop(number, when=""):
    global _stopping
    _end_at_once()
    line = f"\nStopped{when}{': ' if _hint else '.'}{_hint}\n"
    os.write(2, line.encode())  # print can't interrupt another print
    code = 128 + number
    # The script must also end if the exception is replaced by another one or ignored,
    # as in a `__del__`, or if a library catches every exception.
    sys.excepthook = sys.unraisablehook = lambda *_: _exit(code)
    timer = threading.Timer(_GRACE, _exit, (code,))
    timer.daemon = True
    timer.start()
    _stopping = SystemExit(code)
    raise _stopping


def _at_exit():
    # While the interpreter shuts down, a signal must not raise an exception.
    _end_at_once()
    # If a library caught the exception, the script has continued, perhaps to its end.
    # It must still have the exit code of the signal.
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
