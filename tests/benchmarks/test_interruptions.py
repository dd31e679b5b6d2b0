import json
import signal

import pytest
from helpers import once

from benchmarks import interruptions

HISTORY = [{"epoch": 1}, {"epoch": 2}]
pytestmark = once


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """What is found wrong of a training that printed this."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(interruptions, "start", lambda log, function: 0)
    monkeypatch.setattr(interruptions, "end", lambda process: 0)
    monkeypatch.setattr(interruptions.Checkpoint, "history_of", lambda _: HISTORY)
    log = tmp_path / "train.log"

    def faults(text, code, number=signal.SIGINT, before=HISTORY[:1], left=()):
        log.write_text(text)
        return [*interruptions.faults_of(log, code, number, before, set(left))]

    return faults


def test_trainings_that_end_as_they_should(stopped):
    assert not stopped("Epoch 3/4\nStopped after 2 finished epochs.\n", 130)
    assert not stopped("Epoch 3/4\n", -9, signal.SIGKILL)


@pytest.mark.parametrize(
    ("text", "code", "before", "fault"),
    [
        ("\nStopped.\n", 0, HISTORY, "exit code 0, expected 130"),
        ("Epoch 3/4\n", 130, HISTORY, "0 lines say"),
        ("\nStopped.\nTraceback (most", 130, HISTORY, "a traceback"),
        ("\nStopped.\n", 130, [*HISTORY, {"epoch": 3}], "had 3 epochs and has 2"),
    ],
)
def test_faults(stopped, text, code, before, fault):
    (found,) = stopped(text, code, before=json.loads(json.dumps(before)))
    assert fault in found


def test_unfinished_files(stopped, tmp_path):
    (tmp_path / "run" / "unfinished-1").mkdir(parents=True)
    assert stopped("\nStopped.\n", 130) == ["unfinished files"]
    assert not stopped("\nStopped.\n", 130, left=interruptions.unfinished())
