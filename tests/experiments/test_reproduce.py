import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import scripts
import tensorflow_datasets as tfds
from helpers import once

from experiments import kept as kept_runs
from experiments import reproduce, tables

PAGE = Path(__file__).parents[2] / "docs" / "results.md"
RUN = {
    "seed": 0,
    "command": "python a_script_of_then.py",
    "test_error": 0.0123,
    "parameters": 1_234,
    "epochs": 5,
    "seconds": 600.0,
    "machine": {"processor": "abacus", "cores": 2, "backend": "tensorflow"},
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with the page, where nothing has been run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", scripts.ENVIRONMENT["PYTHONPATH"])
    (tmp_path / "docs").mkdir()
    (tmp_path / "results").mkdir()
    shutil.copy(PAGE, tmp_path / "docs")
    return tmp_path


def keep(name, **changes):
    Path("results", f"{name}.json").write_text(json.dumps({**RUN, **changes}))


def section(table):
    page = Path("docs/results.md").read_text()
    return page.split(f"<!-- {table} -->")[1].split(f"<!-- end of {table} -->")[0]


def test_rows_with_and_without_results(capsys):
    keep("mnist_1")
    machine = {**RUN["machine"], "gpus": ["An A1"], "backend": "jax"}
    keep("mnist_1_seed1", test_error=0.02, seed=1, seconds=1200.0, machine=machine)
    reproduce.write_page()
    text = section("mnist")
    assert "| 1 iteration | 1.23, 2.00 | 0.34 | 0.39 | 0, 1 | 1,234 |" in text
    assert "| 1,234 | 5 | 10, 20 |" in text
    assert "| 3 iterations | not run here | 0.35 | 0.40 | – | – | – | – |" in text
    assert "(2 cores of abacus, tensorflow; An A1, 2 cores of abacus, jax)" in text
    assert "code.](images/results_mnist.png)" in text
    assert Path("docs/images/results_mnist.png").exists()
    keep("mnist_1_seed2", test_error=0.0277, seed=2)
    reproduce.write_page()
    assert "| 1.23, 2.00, 2.77 (2.00 ± 0.77) |" in section("mnist")
    Path("results/mnist_1_seed2.json").unlink()
    reproduce.write_page()
    for run in ("mnist_1", "mnist_3"):  # what runs now, also where another ran
        assert f"\n{tables.RUNS[run]}\n" in text
    assert "a_script_of_then" not in text
    assert "images" not in section("smallnorb")
    before = Path("docs/results.md").read_text()
    reproduce.write_page()
    assert Path("docs/results.md").read_text() == before
    capsys.readouterr()
    reproduce.write_page("mnist")
    assert text.strip() in capsys.readouterr().out


def test_networks_that_are_compared():
    history = [{"epoch": 1, "familiar_error": 0.1, "novel_error": 0.3}]
    network = {**RUN, "epoch": 1, **history[0], "history": history}
    del network["machine"]
    networks = {"cnn": network, "capsules": {**network, "novel_error": 0.2}}
    keep("aff_mnist", **networks)
    last = {"familiar_error": 0.05, "novel_error": 0.15}
    networks = {name: {**found, "last": last} for name, found in networks.items()}
    keep("azimuth", azimuth=networks)
    keep("eth80_elevation", elevation=networks)
    reproduce.write_page()
    assert "| changed digits, capsules | 20.00 | 21 |" in section("aff_mnist")
    assert "| novel azimuths, CNN | 30.00 | 20 |" in section("viewpoints")
    assert "| novel azimuths, last epoch, CNN | 15.00 | – |" in section("viewpoints")
    assert "| familiar elevations, CNN | not run here | 4.3 |" in section("viewpoints")
    assert "| familiar elevations, CNN | 10.00 | – |" in section("eth80")
    assert "--novel azimuth --epochs 60 --data-dir FOLDER" in section("eth80")
    assert "eth80_azimuth: not run here" not in section("eth80")
    for name in ("aff_mnist", "azimuth", "eth80_elevation"):
        assert Path(f"docs/images/results_{name}_epochs.png").exists()


def test_what_the_routing_of_each_layer_does():
    layers = "conv_capsules_1", "conv_capsules_2", "class_capsules"
    for seed, parents in enumerate((0.5, 0.6)):
        last = {f"{layer}_activation_std": 0.2 for layer in layers}
        last |= {f"{layer}_effective_parents": parents for layer in layers}
        first = dict.fromkeys(last, 0.0)
        name = "ablation_1" + seed * "_seed1"
        keep(name, seed=seed, history=[first, last])
    reproduce.write_page()
    text = section("ablations")
    assert "| 1 iteration | 0.20, 0.55 | 0.20, 0.55 | 0.20, 0.55 |" in text
    assert "| margin loss | – | – | – |" in text


def test_attacks():
    rows = [
        {"model": model, "epsilon": epsilon, "accuracy": accuracy}
        for model, accuracies in (("capsules", (1.0, 0.7)), ("cnn", (0.9, 0.2)))
        for epsilon, accuracy in zip((0.0, 0.1), accuracies, strict=True)
    ]
    accuracy = {"FGSM": rows, "BIM": rows}
    keep("toys_attacks", accuracy=accuracy, dataset="toys/full", images=1_000)
    reproduce.write_page()
    text = section("attacks")
    where = "1,000 test images of toys/full, networks of seed 0:"
    assert f"\nAccuracy in % on {where}\n" in text
    assert "| epsilon | FGSM, capsules | FGSM, CNN | BIM, capsules | BIM, CNN |" in text
    assert "| 0.1 | 70.0 | 20.0 | 70.0 | 20.0 |" in text
    assert Path("docs/images/results_toys_attacks.png").exists()
    assert "\nmnist_attacks: not run here\n" in text
    assert "toys_attacks: not" not in text
    assert "`python -m experiments.reproduce attacks` (" in text
    keep("toys_attacks", accuracy=accuracy, dataset="toys/full", images=1_000, seed=3)
    reproduce.write_page()
    assert "`python -m experiments.reproduce attacks --seed 3` (" in section("attacks")
    assert "--capsules runs/results/toys_3_seed3/best.keras" in section("attacks")


def test_the_toys_that_are_mistaken_most():
    toys = [
        {
            "toy": f"cars {toy}",
            "cnn": {"error": 0.3 - toy / 40, "mistaken_for": "trucks"},
        }
        for toy in range(10)
    ]
    keep("toys_mistakes", test_error={"cnn": 0.1}, toys=toys)
    reproduce.write_page()
    lines = section("toys").splitlines()
    first = lines.index("| error in % on a toy | cnn |")
    assert lines[first + 2] == "| cars 0 | 30.0 (trucks) |"
    assert lines[first + 4] == "| cars 2 | 25.0 (trucks) |"
    assert lines[first + 5] == "| the other 7 | 15.0 |"
    assert not lines[first + 6]


def test_a_folder_that_can_not_be_used():
    Path("runs").write_text("a file")
    with pytest.raises(SystemExit, match="Can't use --folder runs: "):
        reproduce.train("mnist_cnn", 0, Path("runs"), [])
    assert Path("runs").read_text() == "a file"


def test_the_ensemble_has_all_seeds(tmp_path):
    flags = ("mnist_ensemble", "--seed", "1")
    result = scripts.refused(tmp_path, "experiments.reproduce", *flags)
    assert result.returncode == 2 and "leave out --seed" in result.stderr


def test_pages_that_can_not_be_written(folder):
    keep("mnist_1")
    for text, missing in (
        ("", "<!-- mnist -->"),
        ("<!-- mnist -->", "<!-- end of mni"),
    ):
        Path("docs/results.md").write_text(text)
        with pytest.raises(SystemExit, match=f"has no {missing}"):
            reproduce.write_page()
        assert Path("docs/results.md").read_text() == text
    Path("docs/results.md").unlink()
    with pytest.raises(SystemExit, match=r"Can't read docs/results\.md"):
        reproduce.write_page()
    assert not (folder / "docs" / "images").exists()


@once
def test_the_page_is_that_of_the_results(folder):
    shutil.rmtree(folder / "results")
    shutil.copytree(PAGE.parents[1] / "results", folder / "results")
    before = PAGE.read_text()
    reproduce.write_page()
    assert Path("docs/results.md").read_text() == before
    images = {path.name for path in Path("docs/images").iterdir()}
    assert images == {path.name for path in PAGE.parent.glob("images/results_*.png")}
    trainings = set(Path("results").glob("*.json")) - set(Path("results").glob("gpu_*"))
    for path in trainings:
        name, _, seed = path.stem.partition("_seed")
        assert name in tables.RUNS
        assert json.loads(path.read_text()).get("seed", 0) == int(
            seed.split("_")[0] or 0
        )


@once
def test_a_run_is_kept_and_not_run_twice(monkeypatch, capfd):
    command = "python -m experiments.train cnn --dataset digits --limit 32 --epochs 1"
    monkeypatch.setitem(reproduce.RUNS, "mnist_cnn", command)
    reproduce.train("mnist_cnn", 3, Path("runs"), [])
    kept = json.loads(Path("results/mnist_cnn_seed3.json").read_text())
    assert kept["command"] == command and kept["seed"] == 3
    assert kept["machine"]["backend"] == keras.backend.backend()
    assert len(kept["history"]) == kept["epochs"] == 1
    capfd.readouterr()
    monkeypatch.setattr(kept_runs, "machine", dict)
    reproduce.train("mnist_cnn", 3, Path("runs"), [])
    finished = (
        "mnist_cnn_seed3 is finished. To run it again, remove runs/mnist_cnn_seed3."
    )
    assert capfd.readouterr().out == f"{finished}\n"
    again = json.loads(Path("results/mnist_cnn_seed3.json").read_text())
    assert again == kept
    monkeypatch.setitem(reproduce.RUNS, "mnist_cnn", f"{command} --batch-size 16")
    kept = Path("results/mnist_cnn_seed3.json").read_text()
    with pytest.raises(SystemExit, match=r"it was made by .*--epochs 1'. Expected: "):
        reproduce.train("mnist_cnn", 3, Path("runs"), [])
    assert Path("results/mnist_cnn_seed3.json").read_text() == kept
    Path("runs/mnist_cnn_seed3/begun.json").unlink()
    with pytest.raises(SystemExit, match=r"Can't use --folder runs: .*begun\.json"):
        reproduce.train("mnist_cnn", 3, Path("runs"), [])


def test_networks_that_are_attacked_have_the_seed_of_the_attack():
    command = reproduce.command_of("toys_attacks", 2, Path("runs"))
    assert "--capsules runs/toys_3_seed2/best.keras" in command
    assert "--cnn runs/toys_cnn_seed2/best.keras" in command


@once
def test_a_run_that_fails_ends_it(monkeypatch):
    command = "python -m experiments.train cnn --what"
    monkeypatch.setitem(reproduce.RUNS, "mnist_cnn", command)
    with pytest.raises(SystemExit, match="2"):
        reproduce.train("mnist_cnn", 0, Path("runs"), [])
    assert not list(Path("results").iterdir())


@once
def test_smallnorb_on_made_up_photographs(folder, monkeypatch):
    builder = tfds.builder("smallnorb", data_dir=folder)
    rng = np.random.default_rng(0)

    def examples(self, *args):
        for index in range(20):
            images = rng.integers(0, 256, (2, 96, 96, 1), "uint8")
            example = {"image": images[0], "image2": images[1], "instance": index % 10}
            for name, count in {"category": 5, "elevation": 9, "azimuth": 18}.items():
                example[f"label_{name}"] = index % count
            yield index, {**example, "label_lighting": index % 6}

    def generators(self, manager):
        return {"train": examples(self), "test": examples(self)}

    monkeypatch.setattr(type(builder), "_split_generators", generators)
    builder.download_and_prepare()
    for name in tables.TABLES["smallnorb"].runs:
        short = tables.RUNS[name].rpartition(" --epochs ")[0] + " --epochs 1"
        monkeypatch.setitem(reproduce.RUNS, name, short)
        reproduce.train(name, 0, Path("runs"), ["--data-dir", str(folder)])
        assert json.loads(Path("results", f"{name}.json").read_text())["epochs"] == 1
    pictures = {path.name for path in Path("runs/smallnorb_small").glob("*.png")}
    assert pictures == {
        *("assignments.png", "curves.png", "routing.png", "vote_distances.png")
    }
    reproduce.write_page()
    assert "not run here" not in section("smallnorb")
