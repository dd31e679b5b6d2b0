import json
import signal
import zipfile

import keras
import scripts
from helpers import once

from keras_capsules import models

SCRIPT = "tune_capsnet.py"
SMALL = ("--limit", "48", "--batch-size", "16", "--output", "run")
# What Hyperband does with so many epochs, how long each trial is. With 3 it trains 3
# networks for an epoch, the best of them for 3, and 2 more for 3.
TRIALS = {2: [2, 2], 3: [1, 1, 1, 3, 3, 3]}


def check(folder, output, epochs):
    trials = json.loads((folder / "run" / "search.json").read_text())
    assert sorted(trial["epochs"] for trial in trials) == TRIALS[epochs]
    assert f"{len(trials)} trials, the best of them" in output
    scores = [trial["val_accuracy"] for trial in trials]
    assert scores == sorted(scores, reverse=True)
    assert f"{scores[0]:.4f}" in output

    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    assert metrics["epochs"] == epochs
    winner = {name: metrics[name] for name in ("routing", "iterations", "pose_size")}
    assert winner.items() <= trials[0].items()
    model = keras.saving.load_model(folder / "run" / "best.keras")
    assert isinstance(model, models.CapsNet)
    assert model.class_capsules.pose_shape == winner["pose_size"]
    assert model.class_capsules.routing.iterations == winner["iterations"]
    names = {path.name for path in (folder / "run").iterdir()}
    assert {"trials.png", "curves.png", "reconstructions.png"} <= names
    exported = folder / "saved_models" / "run"
    assert (exported / "model.keras").exists()
    assert (exported / "1").exists() == (keras.backend.backend() == "tensorflow")


@once
def test_the_folder_of_another_training_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    with zipfile.ZipFile(tmp_path / "run" / "last.keras", "w") as archive:
        archive.writestr("history.json", '[{"epoch": 1}]')
    refused = scripts.refused(tmp_path, SCRIPT, *SMALL)
    assert refused.returncode == 2 and "run holds another run" in refused.stderr


@once
def test_a_search_is_killed_and_resumed(tmp_path):
    flags = (*SMALL, "--epochs", "3")
    with scripts.started(tmp_path, scripts.command(SCRIPT, *flags)) as (process,):
        while "Running Trial #2" not in (line := process.stdout.readline()):
            assert line, process.communicate()
        process.send_signal(signal.SIGKILL)
        process.communicate()
    refused = scripts.refused(tmp_path, SCRIPT, *flags)
    assert refused.returncode == 2
    assert "run holds a search: add --resume" in refused.stderr
    refused = scripts.refused(tmp_path, SCRIPT, *SMALL, "--epochs", "2", "--resume")
    assert refused.returncode == 1
    assert "was made with {'epochs': 3}" in refused.stderr
    result = scripts.run(tmp_path, SCRIPT, *flags, "--resume")
    assert result.returncode == 0, result.stderr
    assert "Running Trial #1" not in result.stdout
    check(tmp_path, result.stdout, epochs=3)


@once
def test_a_chief_and_two_workers(tmp_path):
    names = ("chief", "worker1", "worker2")
    with scripts.free_port() as port:
        address = {
            "KERASTUNER_ORACLE_IP": "localhost",
            "KERASTUNER_ORACLE_PORT": str(port),
        }
        commands = 3 * [scripts.command(SCRIPT, *SMALL, "--epochs", "2")]
        environments = [{**address, "KERASTUNER_TUNER_ID": name} for name in names]
        with scripts.started(tmp_path, *commands, environments=environments) as group:
            results = [
                process.communicate(timeout=scripts.SECONDS) for process in group
            ]
            assert [process.returncode for process in group] == [0, 0, 0], results
    (output, _), *workers = results
    check(tmp_path, output, epochs=2)
    assert any("Epoch 1/" in printed for printed, _ in workers)
