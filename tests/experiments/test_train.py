import csv
import json
import signal
import subprocess

import keras
import pytest
import scripts
from helpers import once

from keras_capsules.callbacks import Checkpoint

SCRIPT = "experiments.train"
SMALL = [
    "capsnet",
    "--dataset",
    "digits",
    "--limit",
    "64",
    "--batch-size",
    "16",
    "--output",
    "run",
]


def start(folder, *options):
    return subprocess.Popen(
        scripts.command(SCRIPT, *SMALL, *options),
        cwd=folder,
        env=scripts.ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A test that runs in the background would pass on that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def run(folder, *options):
    process = start(folder, *options)
    output, _ = process.communicate(timeout=scripts.SECONDS)
    return process.returncode, output


def kill_in_epoch(folder, epoch, how, *options):
    """Starts a long run and ends it in `epoch` or soon after; the finished epochs."""
    process = start(folder, "--epochs", "99", "--no-reconstruction", *options)
    while f"Epoch {epoch}/99" not in (line := process.stdout.readline()):
        assert line, "the run ended by itself"
    process.send_signal(how)
    output, _ = process.communicate(timeout=60)
    done = len(Checkpoint.history_of(folder / "run"))
    assert done >= epoch - 1
    return process.returncode, output, done


@once
def test_a_whole_run(tmp_path):
    code, output = run(tmp_path, "--epochs", "2", "--iterations", "2", "--seed", "5")
    assert code == 0, output
    folder = tmp_path / "run"
    assert {path.name for path in folder.iterdir()} == {
        *("best.keras", "last.keras", "settings.json", "metrics.json", "history.csv"),
        *("curves.png", "reconstructions.png", "pose_tweaks.png"),
    }
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["dataset"] == "digits" and metrics["seed"] == 5
    assert metrics["epochs"] == 2
    assert metrics["test_accuracy"] == pytest.approx(1 - metrics["test_error"])
    assert metrics["images_per_second"] > 0 and metrics["seconds"] > 0
    assert metrics["versions"]["keras"] == keras.__version__
    with open(folder / "history.csv") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]
    model = keras.saving.load_model(folder / "best.keras")
    assert model.digit.routing.iterations == 2
    assert metrics["parameters"] == model.count_params()


@once
def test_the_other_networks(tmp_path):
    small = ("--limit", "32", "--batch-size", "32", "--epochs", "1")
    for network, pictures in (
        ("cnn", set()),
        ("matrix_capsnet", {"vote_distances.png", "assignments.png"}),
    ):
        result = scripts.run(tmp_path, SCRIPT, network, *small)
        assert result.returncode == 0, result.stderr
        folder = tmp_path / "runs" / f"{network}_digits"
        assert {path.name for path in folder.glob("*.png")} == {"curves.png", *pictures}
        metrics = json.loads((folder / "metrics.json").read_text())
        assert metrics["dataset"] == "digits" and metrics["epochs"] == 1
    assert metrics["variant"] == "small" and metrics["loss"] == "spread"
    assert metrics["coordinate_addition"] is True


@once
def test_kill_9_in_an_epoch_and_resume(tmp_path):
    half = ("--precision", "mixed_float16", "--learning-rate", "0.002")
    code, _, done = kill_in_epoch(tmp_path, 3, signal.SIGKILL, *half)
    assert code == -signal.SIGKILL
    killed = keras.saving.load_model(tmp_path / "run" / "last.keras")
    assert int(killed.optimizer.iterations) == 4 * done  # epochs of 4 batches
    epochs = ("--epochs", str(done + 1))
    code, output = run(tmp_path, *epochs, "--no-reconstruction", "--resume", *half)
    assert code == 0, output
    assert f"Going on after epoch {done}." in output
    assert f"Epoch {done + 1}/{done + 1}" in output
    assert len(Checkpoint.history_of(tmp_path / "run")) == done + 1
    resumed = keras.saving.load_model(tmp_path / "run" / "last.keras")
    assert int(resumed.optimizer.iterations) == 4 * (done + 1)
    optimizer = resumed.optimizer.inner_optimizer
    learning_rate = optimizer.get_config()["learning_rate"]
    assert learning_rate["config"]["decay_steps"] == 4 * (done + 1)
    assert learning_rate["config"]["initial_learning_rate"] == 0.002
