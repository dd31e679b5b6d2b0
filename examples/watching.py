"""Watches a process that can't go on without others, and says how it ended.

JAX aborts a process that has lost another one from within; no exception tells of it.
So the training runs in a child, and its parent waits.
"""

import os
import signal
import subprocess
import sys
import threading
import traceback

_CHILD = "KERAS_CAPSULES_WATCHED"
_FAILED = 70


def watched(main, advice):
    """Runs `main` in a child process; the script ends as the child does.

    The child is the same command again, so nothing that the parent does without
    comes before.

    Args:
        main: function without arguments.
        advice: what to say when it ends before its time.
    """
    if _CHILD in os.environ:
        _work(main)
    else:
        sys.exit(_watch(advice))


def _work(main):
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    try:
        main()
    except SystemExit as error:
        code = error.code or 0
        if isinstance(code, str):
            print(code, file=sys.stderr)
            code = 1
        _end_at_once(code)
    except BaseException:
        traceback.print_exc()
        _end_at_once(_FAILED)


def _end_at_once(code):
    """The usual way out waits for the other processes, which wait for this one."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _end_with_the_parent():
    os.read(0, 1)
    os._exit(1)


def _watch(advice):
    child = subprocess.Popen(
        [sys.executable, *sys.orig_argv[1:]],
        env={**os.environ, _CHILD: "1"},
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C comes through this process alone
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: child.send_signal(number))
    code = child.wait()
    if code == _FAILED:
        reason = "by the error above"
    elif code == -signal.SIGABRT:
        reason = "because another process was lost"
    elif code < 0:
        reason = f"by {signal.Signals(-code).name}"
    else:
        return code
    return f"\nStopped {reason}. {advice}"
