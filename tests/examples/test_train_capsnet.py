import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import pytest

from keras_capsules.callbacks import Checkpoint

SCRIPT = Path(__file__).parents[2] / "examples" / "train_capsnet.py"
SMALL = [
    "--dataset",
    "digits",
    "--limit",
    "64",
    "--batch-size",
    "16",
    "--output",
    "run",
]

trains = pytest.mark.skipif(
    keras.backend.backend() == "jax",
    reason="XLA takes minutes for the paper's 9×9 convolutions on a CPU",
)


def start(folder, *options):
    return subprocess.Popen(
        [sys.executable, SCRIPT, *SMALL, *options],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A test that runs in the background would pass on that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def run(folder, *options):
    process = start(folder, *options)
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def kill_in_epoch(folder, epoch, how):
    """Starts a long run and ends it while `epoch` is under way."""
    process = start(folder, "--epochs", "99", "--no-reconstruction")
    while f"Epoch {epoch}/99" not in (line := process.stdout.readline()):
        assert line, "the run ended by itself"
    time.sleep(0.3)  # an epoch takes seconds
    process.send_signal(how)
    output, _ = process.communicate(timeout=60)
    return process.returncode, output


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@trains
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
    assert metrics["epochs"] == 2 and metrics["parameters"] == 8_215_568
    assert metrics["test_accuracy"] == pytest.approx(1 - metrics["test_error"])
    assert metrics["images_per_second"] > 0 and metrics["seconds"] > 0
    assert metrics["versions"]["keras"] == keras.__version__
    with open(folder / "history.csv") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]
    model = keras.saving.load_model(folder / "best.keras")
    assert model.digit.routing.iterations == 2
    exported = tmp_path / "saved_models" / "run" / "1" / "saved_model.pb"
    assert exported.exists() == (keras.backend.backend() == "tensorflow")

    before = contents(folder)
    code, output = run(tmp_path, "--epochs", "2")
    assert code == 2 and "run holds a run: add --resume" in output
    more = ("--resume", "--epochs", "3")
    code, output = run(tmp_path, *more, "--seed", "5", "--iterations", "3")
    assert code == 1 and "Can't resume" in output
    assert "routing.config.iterations is 2, expected 3" in output
    code, output = run(tmp_path, *more, "--seed", "6")
    assert code == 1 and "was made with" in output and "'seed': 5" in output
    assert contents(folder) == before


@trains
def test_kill_9_in_an_epoch_and_resume(tmp_path):
    code, _ = kill_in_epoch(tmp_path, 3, signal.SIGKILL)
    assert code == -signal.SIGKILL
    killed = keras.saving.load_model(tmp_path / "run" / "last.keras")
    assert int(killed.optimizer.iterations) == 2 * 4  # 2 epochs of 4 batches
    code, output = run(tmp_path, "--epochs", "3", "--no-reconstruction", "--resume")
    assert code == 0, output
    assert "Going on after epoch 2." in output and "Epoch 3/3" in output
    resumed, history = Checkpoint.load(tmp_path / "run", like=killed)
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert int(resumed.optimizer.iterations) == 3 * 4
    assert (
        resumed.optimizer.get_config()["learning_rate"]["config"]["decay_steps"] == 12
    )


@trains
def test_ctrl_c_says_how_to_go_on(tmp_path):
    code, output = kill_in_epoch(tmp_path, 2, signal.SIGINT)
    assert code == 1
    assert "Stopped after 1 finished epochs: --resume goes on" in output
    assert len(Checkpoint.history_of(tmp_path / "run")) == 1


def test_output_that_can_not_be_used(tmp_path):
    (tmp_path / "run").write_text("a file")
    code, output = run(tmp_path)
    assert code == 1 and "Can't use --output run" in output
    assert (tmp_path / "run").read_text() == "a file"


def test_missing_data_set_says_what_to_do(tmp_path):
    environment = {**os.environ, "TFDS_DATA_DIR": str(tmp_path)}
    program = f"""
import sys, runpy, tensorflow_datasets as tfds
def download(self): raise ConnectionError
tfds.core.DatasetBuilder.download_and_prepare = download
sys.path.insert(0, {str(SCRIPT.parent)!r})
sys.argv = ["train_capsnet.py", "--dataset", "mnist"]
runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert result.stderr.rstrip().splitlines()[-1].startswith("mnist is not in")
    assert "Traceback" not in result.stderr
