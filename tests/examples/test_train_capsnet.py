import json
import signal
import subprocess

import keras
import pytest
import scripts
from helpers import once

from keras_capsules.callbacks import Checkpoint

SCRIPT = "train_capsnet.py"
SMALL = ("--limit", "64", "--batch-size", "16", "--output", "run")


def test_a_whole_run(tmp_path):
    options = ["--epochs", "2", "--iterations", "2", "--seed", "5"]
    if keras.backend.backend() == "jax":
        options.append("--on-device")
    result = scripts.run(tmp_path, SCRIPT, *SMALL, *options)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "run"
    assert {path.name for path in folder.iterdir()} == {
        *("best.keras", "last.keras", "metrics.json", "history.csv"),
        *("curves.png", "reconstructions.png", "pose_tweaks.png"),
    }
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["dataset"] == "digits" and metrics["seed"] == 5
    assert metrics["epochs"] == 2 and metrics["seconds"] > 0
    assert metrics["test_accuracy"] == pytest.approx(1 - metrics["test_error"])
    assert f"test_error  {metrics['test_error']:.4f}" in result.stdout
    model = keras.saving.load_model(folder / "best.keras")
    assert model.class_capsules.routing.iterations == 2
    assert metrics["parameters"] == model.count_params()
    exported = tmp_path / "saved_models" / "run"
    bare = keras.saving.load_model(exported / "model.keras")
    assert not bare.compiled and bare.count_params() == metrics["parameters"]
    served = exported / "1" / "saved_model.pb"
    assert served.exists() == (keras.backend.backend() == "tensorflow")


@once
def test_ctrl_c_says_how_to_go_on_and_it_does(tmp_path):
    metrics = tmp_path / "run" / "metrics.json"
    metrics.parent.mkdir()
    metrics.write_text("of a shorter run")
    process = subprocess.Popen(
        scripts.command(SCRIPT, *SMALL, "--epochs", "99"),
        cwd=tmp_path,
        env=scripts.ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A test that runs in the background would pass on that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while "Epoch 3/99" not in (line := process.stdout.readline()):
        assert line, "the run ended by itself"
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    done = len(Checkpoint.history_of(tmp_path / "run"))
    assert process.returncode == 130 and done >= 2
    assert output.endswith(
        f"\nStopped after {done} finished epochs: "
        "--resume goes on from the last finished epoch.\n"
    )
    assert "Traceback" not in output and not metrics.exists()

    refused = scripts.refused(tmp_path, SCRIPT, *SMALL)
    assert refused.returncode == 2
    assert "run holds a run: add --resume, or choose another" in refused.stderr
    epochs = ("--epochs", str(done + 1))
    result = scripts.run(tmp_path, SCRIPT, *SMALL, "--resume", *epochs)
    assert result.returncode == 0, result.stderr
    assert f"Going on after epoch {done}." in result.stdout
    assert f"Epoch {done + 1}/{done + 1}" in result.stdout
    assert len(Checkpoint.history_of(tmp_path / "run")) == done + 1


@once
def test_a_network_of_the_package_is_not_overwritten(tmp_path):
    output = "runs/capsnet_mnist_small"
    result = scripts.refused(tmp_path, SCRIPT, "--output", output)
    assert result.returncode == 2
    assert "capsnet_mnist_small is a network of the package" in result.stderr
    assert not list(tmp_path.iterdir())


@once
def test_what_can_not_be_written_is_said_before_the_training(tmp_path):
    (tmp_path / "saved_models").write_text("a file")
    result = scripts.run(tmp_path, SCRIPT, *SMALL)
    assert result.returncode == 1
    last = result.stderr.rstrip().splitlines()[-1]
    assert last.startswith("Stopped: ") and "saved_models/run" in last
    assert "Traceback" not in result.stderr and "Epoch" not in result.stdout


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
