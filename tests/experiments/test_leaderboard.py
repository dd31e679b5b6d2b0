import json
import shutil
from pathlib import Path

import pytest
import scripts
from helpers import once

from experiments import leaderboard, networks

PAGE = scripts.ROOT / "docs" / "leaderboard.md"
RUN = {
    "seed": 0,
    "command": "python a_script_of_then.py",
    "test_error": 0.0123,
    "fgsm_accuracy": 0.5,
    "parameters": 1_234,
    "history": [{"hidden_effective_parents": 0.75, "classes_effective_parents": 0.5}],
    "machine": {"processor": "abacus", "cores": 2, "backend": "tensorflow"},
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with the page, where nothing has been run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", scripts.ENVIRONMENT["PYTHONPATH"])
    (tmp_path / "docs").mkdir()
    leaderboard.RESULTS.mkdir(parents=True)
    shutil.copy(PAGE, tmp_path / "docs")
    return tmp_path


def keep(name, **changes):
    (leaderboard.RESULTS / f"{name}.json").write_text(json.dumps({**RUN, **changes}))


def section(dataset):
    page = Path("docs/leaderboard.md").read_text()
    return page.split(f"<!-- {dataset} -->")[1].split(f"<!-- end of {dataset} -->")[0]


def test_the_best_come_first_and_who_was_not_run_last():
    keep("mnist_dynamic")
    keep("mnist_em", test_error=0.01)
    keep("mnist_em_seed1", test_error=0.012, seed=1, fgsm_accuracy=0.6)
    keep("mnist_cnn", test_error=0.02, history=[{}])
    keep("multi_mnist_em", fgsm_accuracy=None)
    leaderboard.write_page()
    rows = section("mnist").splitlines()[3:]
    assert rows[0] == "| em | 1.00, 1.20 | 0, 1 | 1,234 | 0.75, 0.50 | 55.0 % |"
    assert rows[1] == "| dynamic | 1.23 | 0 | 1,234 | 0.75, 0.50 | 50.0 % |"
    assert rows[2] == "| cnn | 2.00 | 0 | 1,234 | – | 50.0 % |"
    missing = "generative, inverted_attention, self_attention, self, uniform, "
    missing += "variational_bayes, uniform_shared"
    assert rows[3:5] == ["", f"Not run here: {missing}."]
    assert "| em | 1.23 | 0 | 1,234 | 0.75, 0.50 | – |" in section("multi_mnist")
    assert "(2 cores of abacus, tensorflow) runs" in section("mnist")
    assert "one seed, a line" in section("mnist")
    assert "](images/leaderboard_mnist.png)" in section("mnist")
    assert Path("docs/images/leaderboard_mnist.png").exists()
    assert "\nNot run here.\n" in section("digits")
    assert "images" not in section("digits") + section("multi_mnist")
    assert "--routing ROUTING --dataset eth80" in section("eth80")
    before = Path("docs/leaderboard.md").read_text()
    leaderboard.write_page()
    assert Path("docs/leaderboard.md").read_text() == before


def test_a_table_of_all_data_sets():
    for rank, contender in enumerate(networks.CONTENDERS):
        keep(f"mnist_{contender}", test_error=0.01 * (10 - rank))
        keep(f"mnist_{contender}_seed1", test_error=0.01 * (10 - rank) + 0.001)
    keep("toys_cnn", test_error=0.2)
    leaderboard.write_page()
    rows = section("all").splitlines()[3:]
    first, last = networks.CONTENDERS[-1], networks.CONTENDERS[0]
    of_toys = {"cnn": "20.00"}
    for row, name, error, rank in (
        (rows[0], first, "1.05", "1.0"),
        (rows[9], last, "10.05", "10.0"),
    ):
        toys = of_toys.get(name, "–")
        assert row == f"| {name} | – | {error} | – | – | {toys} | – | – | {rank} |"


def test_a_routing_of_ones_own_has_a_row():
    keep("mnist_mine.Routing", routing="mine:Routing", test_error=0.01)
    keep("mnist_em", routing="em")
    leaderboard.write_page()
    rows = section("mnist").splitlines()[3:]
    assert rows[0].startswith("| mine:Routing | 1.00 |") and "| em |" in rows[1]
    assert "mine:Routing" not in section("digits")
    assert leaderboard.name_of("mnist", "mine:Routing") == "mnist_mine.Routing"


@once
def test_the_page_is_that_of_the_results(folder):
    shutil.rmtree(folder / "results")
    shutil.copytree(PAGE.parents[1] / "results", folder / "results")
    leaderboard.write_page()
    assert Path("docs/leaderboard.md").read_text() == PAGE.read_text()
    images = {path.name for path in Path("docs/images").glob("*")}
    assert images == {path.name for path in PAGE.parent.glob("images/leaderboard_*")}
    known = {
        leaderboard.name_of(dataset, contender)
        for dataset in leaderboard.BUDGETS
        for contender in networks.CONTENDERS
    }
    for path in leaderboard.RESULTS.glob("*"):
        assert path.stem.partition("_seed")[0] in known


@once
def test_a_network_is_trained_and_shown(monkeypatch):
    budget = "--dataset digits --limit 32 --epochs 1"
    monkeypatch.setitem(leaderboard.BUDGETS, "digits", budget)
    leaderboard.train("digits", "uniform", 2, Path("runs"), [])
    (path,) = leaderboard.RESULTS.iterdir()
    assert path.name == "digits_uniform_seed2.json"
    kept = json.loads(path.read_text())
    leaderboard.write_page()
    row = f"| uniform | {100.0 * kept['test_error']:.2f} | 2 |"
    assert row in section("digits") and budget in section("digits")
