import json
import os
import re
import signal
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import pytest
import scripts

from keras_capsules.callbacks import Checkpoint

# What each process has learned is kept.
KEEP = """
import os
if "KERAS_CAPSULES_WATCHED" in os.environ:
    import jax, keras, numpy as np
    fit = keras.Model.fit
    def fit_and_keep(self, *args, **kwargs):
        fit(self, *args, **kwargs)
        np.savez(f"weights_{jax.process_index()}.npz", *self.get_weights())
    keras.Model.fit = fit_and_keep
"""
SMALL = ("--limit", "40", "--batch-size", "16", "--output", "run")

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="several processes need JAX"
)


@contextmanager
def started(folder, processes, *options):
    """The processes of one training."""
    with scripts.free_port() as port:
        commands = (
            scripts.command(
                "train_distributed.py",
                *SMALL,
                *("--coordinator", f"localhost:{port}", "--process", str(process)),
                *("--processes", str(processes), *options),
                before=KEEP,
            )
            for process in range(processes)
        )
        with scripts.started(folder, *commands) as group:
            yield group


def run(folder, processes, *options):
    folder.mkdir(exist_ok=True)
    with started(folder, processes, *options) as group:
        results = [process.communicate(timeout=scripts.SECONDS) for process in group]
        codes = [process.returncode for process in group]
    assert codes == [0] * processes, results
    return results


def weights(folder, process):
    with np.load(folder / f"weights_{process}.npz") as file:
        return [file[name] for name in file]


def child_of(process):
    """The process that trains; the one that was started watches it."""
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())


def test_two_processes_train_as_one(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    run(one, 1, "--epochs", "2")
    (output, _), (silent, _) = run(two, 2, "--epochs", "2")
    assert "2 processes with 2 devices" in output and "Epoch 2/2" in output
    assert "Epoch" not in silent

    for a, b, c in zip(weights(two, 0), weights(two, 1), weights(one, 0), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, c, atol=1e-3)
    for a, b in zip(
        Checkpoint.history_of(one / "run"),
        Checkpoint.history_of(two / "run"),
        strict=True,
    ):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-4)
    metrics = json.loads((two / "run" / "metrics.json").read_text())
    assert metrics["processes"] == metrics["devices"] == metrics["epochs"] == 2
    assert {path.name for path in (two / "run").iterdir()} == {
        *("best.keras", "last.keras", "metrics.json", "history.csv"),
        *("curves.png", "reconstructions.png"),
    }


def test_when_a_process_is_killed_the_other_stops_and_both_resume(tmp_path):
    odd = ("--limit", "41", "--batch-size", "20")
    with started(tmp_path, 2, "--epochs", "999", *odd) as group:
        while "Epoch 3/999" not in (line := group[0].stdout.readline()):
            assert line, group[0].communicate()
        os.kill(child_of(group[1]), signal.SIGKILL)
        for process, reason in zip(group, ("", " by SIGKILL"), strict=True):
            _, errors = process.communicate(timeout=scripts.SECONDS)
            assert process.returncode == 1
            assert re.search(rf"^Stopped{reason}.*When one process stops", errors, re.M)
            assert errors.endswith("go on after the last finished epoch.\n")
    done = len(Checkpoint.history_of(tmp_path / "run"))
    assert done >= 2
    epochs = ("--epochs", str(done + 1))
    (output, _), _ = run(tmp_path, 2, "--resume", *epochs, *odd)
    assert f"Going on after epoch {done}." in output
    assert len(Checkpoint.history_of(tmp_path / "run")) == done + 1


def test_nobody_to_join(tmp_path):
    # The script starts itself anew, so it needs a command line of its own.
    command = scripts.command("train_distributed.py")
    with scripts.started(tmp_path, command) as (process,):
        _, errors = process.communicate(timeout=scripts.SECONDS)
    assert process.returncode == 1
    assert "Can't join the other processes" in errors
    assert "Pass --coordinator" in errors and "Traceback" not in errors
    assert not list(tmp_path.iterdir())


def test_a_batch_that_can_not_be_divided(tmp_path):
    with started(tmp_path, 2, "--batch-size", "15") as group:
        results = [process.communicate(timeout=scripts.SECONDS) for process in group]
        assert all(process.returncode for process in group)
    # The one that is slower may be told first that the other is gone.
    assert any(
        "--batch-size must be a multiple of the 2 devices" in errors
        for _, errors in results
    )
    assert not list(tmp_path.iterdir())
