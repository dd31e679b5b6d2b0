import json
import re

import keras
import numpy as np
import pytest
import scripts
from helpers import close, once

from examples import classify_text
from keras_capsules.callbacks import Checkpoint

SCRIPT = "classify_text.py"
SMALL = ("--batch-size", "16", "--output", "run")
NAMES = {
    *("best.keras", "last.keras", "metrics.json", "history.csv"),
    *("curves.png", "words.png"),
}


@pytest.fixture
def sources(tmp_path):
    """A folder of source files; all lines but one say whose they are."""
    folder = tmp_path / "sources"
    folder.mkdir()
    for number in range(40):
        more = " and more" * (number % 12)
        (folder / f"{number}.py").write_text(
            f'"""Documentation of file{number} as it is{more}."""\n'
            f"# A comment of file{number} as it is{more}.\n"
            "# The same line in all files.\n"
            f"value = file{number}('# none', {number}, *('{more}'))  # brief\n"
        )
    return folder


def train(folder, sources, *options):
    before = f"""
import sysconfig
paths = {{**sysconfig.get_paths(), "stdlib": {str(sources)!r}}}
sysconfig.get_paths = lambda *args, **kwargs: paths
"""
    return scripts.run(folder, SCRIPT, *SMALL, *options, before=before)


def test_a_whole_run(tmp_path, sources):
    result = train(tmp_path, sources, "--epochs", "1", "--limit", "60")
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "run"
    assert {path.name for path in folder.iterdir()} == NAMES
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["routing"] == "self_attention" and metrics["output"] == "run"
    assert metrics["epochs"] == 1 and metrics["train_lines"] == 60
    assert f"test_accuracy  {metrics['test_accuracy']:.4f}" in result.stdout


@once
def test_a_run_that_goes_on(tmp_path, sources):
    assert train(tmp_path, sources, "--epochs", "1", "--limit", "60").returncode == 0
    refused = scripts.refused(tmp_path, SCRIPT, *SMALL)
    assert refused.returncode == 2
    assert "run holds a run: add --resume, or choose another" in refused.stderr
    result = train(tmp_path, sources, "--epochs", "9", "--resume")
    assert result.returncode == 0, result.stderr
    assert "Going on after epoch 1." in result.stdout
    assert "Epoch 9/9" in result.stdout and "Epoch 1/" not in result.stdout
    folder = tmp_path / "run"
    assert len(Checkpoint.history_of(folder)) == 9
    assert {path.name for path in folder.iterdir()} == NAMES
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["epochs"] == 9 and metrics["test_accuracy"] > 0.5

    # Padding changes nothing.
    model = keras.saving.load_model(folder / "best.keras")
    ids, _ = classify_text.Batches(classify_text.read(sources)["test"], 99)[0]
    padded = np.pad(ids, ((0, 0), (0, 16)))
    close(model(padded), model(ids), rtol=1e-5)


@once
def test_a_file_is_in_one_split_and_a_line_is_there_once(sources):
    splits = classify_text.read(sources)
    assert splits.keys() == {"train", "validation", "test"}
    lines = [words for split in splits.values() for words, _ in split]
    assert len(lines) == len(set(lines)) == 3 * 40
    found = [
        {word for words, _ in split for word in words if re.match(r"file\d", word)}
        for split in splits.values()
    ]
    assert sum(map(len, found)) == len(set.union(*found)) == 40
    for split in splits.values():
        labels = [label for _, label in split]
        assert labels == [0, 1, 2] * (len(labels) // 3)
        for words, label in split:
            first = {"value": 0, "A": 1, "The": 1, "Documentation": 2}
            assert first[words[0]] == label and "brief" not in words


@once
def test_batches_are_as_long_as_their_longest_line():
    examples = [(["word"] * (1 + number), number % 3) for number in range(70)]
    batches = classify_text.Batches(examples, 16)
    lengths = [batches[number][0].shape for number in range(len(batches))]
    assert lengths == [(16, 86), (16, 32), (16, 48), (16, 64), (6, 80)]
    ids, labels = batches[1]
    assert ((ids > 0).sum(1) == np.arange(17, 33)).all()
    assert (labels == np.arange(16, 32) % 3).all()

    shuffled = classify_text.Batches(examples, 16, seed=1)
    first = shuffled[1][0]
    shuffled.on_epoch_end()
    assert first.shape != shuffled[1][0].shape or (first != shuffled[1][0]).any()
    goes_on = classify_text.Batches(examples, 16, seed=1, epoch=1)
    assert (goes_on[1][0] == shuffled[1][0]).all()


@once
def test_a_wrong_flag_ends_in_one_line(tmp_path):
    result = scripts.refused(tmp_path, SCRIPT, "--routing", "em")
    assert result.returncode == 2
    assert "invalid choice: 'em'" in result.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


@once
def test_a_folder_without_sources(tmp_path, sources):
    for path in sources.iterdir():
        path.unlink()
    result = train(tmp_path, sources)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].endswith("holds too few sources of Python.")
