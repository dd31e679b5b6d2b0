import csv
import json
import signal
import subprocess

import keras
import pytest
import scripts
from helpers import once

from keras_capsules.callbacks import Checkpoint

SCRIPT = "train_capsnet.py"
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


def start(folder, *options):
    return subprocess.Popen(
        scripts.command(SCRIPT, *SMALL, *options),
        cwd=folder,
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
    exported = tmp_path / "saved_models" / "run"
    bare = keras.saving.load_model(exported / "model.keras")
    assert not bare.compiled and bare.count_params() == metrics["parameters"]
    served = exported / "1" / "saved_model.pb"
    assert served.exists() == (keras.backend.backend() == "tensorflow")


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
    resumed, history = Checkpoint.load(tmp_path / "run", like=killed)
    assert [row["epoch"] for row in history] == list(range(1, done + 2))
    assert int(resumed.optimizer.iterations) == 4 * (done + 1)
    optimizer = resumed.optimizer.inner_optimizer
    learning_rate = optimizer.get_config()["learning_rate"]
    assert learning_rate["config"]["decay_steps"] == 4 * (done + 1)
    assert learning_rate["config"]["initial_learning_rate"] == 0.002


@once
def test_ctrl_c_says_how_to_go_on(tmp_path):
    code, output, done = kill_in_epoch(tmp_path, 2, signal.SIGINT)
    assert code == 1
    assert f"Stopped after {done} finished epochs: --resume goes on" in output


@once
def test_missing_data_set_says_what_to_do(tmp_path):
    no_network = f"""
import tensorflow_datasets as tfds
def download(self): raise ConnectionError
tfds.core.DatasetBuilder.download_and_prepare = download
sys.argv += ["--data-dir", {str(tmp_path)!r}]
"""
    result = scripts.run(tmp_path, SCRIPT, "--dataset", "mnist", before=no_network)
    assert result.returncode == 1
    assert result.stderr.rstrip().splitlines()[-1].startswith("mnist is not in")
    assert "Traceback" not in result.stderr
