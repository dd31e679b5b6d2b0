import argparse
import importlib
import json
import subprocess
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from helpers import once

from benchmarks import measure, training
from benchmarks.routing import measure_routing
from benchmarks.scaling import measure_sizes


@once
def test_a_task_runs_in_a_fresh_process():
    sizes = {"batch": 2, "children": 3, "parents": 2, "pose": 4, "iterations": 2}
    task = {"routing": "em", "growing": "batch", **sizes}
    found = measure.fresh(measure_sizes, task)
    assert found["step_ms"] > 0.0


@once
def test_a_task_that_fails_says_why():
    with pytest.raises(RuntimeError, match="KeyError: 'none'"):
        measure.fresh(measure_routing, {"shape": "none", "routing": "em"})


@once
def test_training_is_measured_by_batches(monkeypatch):
    monkeypatch.setattr(training, "COUNTED", 2)
    found = training.measure_training("MatrixCapsNet", "ours", "float32", batch=2)
    assert found["images_per_second"] > 0.0


def test_a_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(
        measure, "fresh", lambda f, task, limit: calls.append(task) or {"x": 2}
    )
    tasks = [{"shape": "a"}, {"shape": "b"}]
    path = tmp_path / "deep" / "results.json"
    options = argparse.Namespace(
        rounds=2, only="", output=path, resume=True, seconds=9.0
    )
    results = measure.run(None, tasks, options)
    assert len(results) == len(calls) == 4
    assert json.loads(path.read_text())["results"] == results
    options.rounds = 3
    assert len(measure.run(None, tasks, options)) == 6
    assert len(calls) == 6
    options.only, options.resume = "b", False
    assert len(measure.run(None, tasks, options)) == 3
    options.seconds = -1.0
    assert measure.run(None, tasks, options) == []
    options.resume = True
    content = {"machine": "another", "results": []}
    path.write_text(json.dumps(content))
    with pytest.raises(SystemExit, match="another machine"):
        measure.run(None, tasks, options)


def test_ratios_are_of_the_same_round():
    results = [
        {"shape": "a", "round": turn, "ms": slow * (1 + 3 * (name == "reference"))}
        | {"routing": name}
        for turn, slow in enumerate((1.0, 10.0, 2.0))
        for name in ("ours", "reference")
    ]
    ours = {"shape": "a", "routing": "ours"}
    reference = {"shape": "a", "routing": "reference"}
    assert measure.ratio(results, "ms", ours, reference) == pytest.approx(4.0)
    assert measure.median(results, "ms", **ours) == 2.0
    assert measure.median(results, "ms", shape="b") is None
    assert measure.ratio(results, "ms", {"shape": "b"}, reference) is None


def test_forward_and_step_run():
    x = keras.ops.convert_to_tensor(np.ones((3,), "float32"))
    forward, step = measure.forward_and_step(lambda x: 2.0 * x, [x])
    forward()
    (slope,) = step()
    np.testing.assert_allclose(keras.ops.convert_to_numpy(slope), [8.0] * 3)


@pytest.mark.parametrize(
    "name", ["routing", "training", "scaling", "floor", "accelerator"]
)
def test_the_tables_of_the_command_line(name, monkeypatch, tmp_path, capsys):
    module = importlib.import_module(f"benchmarks.{name}")
    figures = ("forward_ms", "step_ms", "forward_mb", "step_mb", "process_mb")
    figures += ("images_per_second", "extra_mb", "ns", "gb_per_second", "gflops")
    monkeypatch.setattr(measure, "fresh", lambda *_: dict.fromkeys(figures, 64.0))
    for only, lines in (("", 6), ("nothing has this name", 0)):
        flags = ["--only", only, "--rounds", "1", "--output", str(tmp_path / "x.json")]
        monkeypatch.setattr("sys.argv", [name, *flags])
        module.main()
        table = [x for x in capsys.readouterr().out.splitlines() if x.startswith("| ")]
        assert len(table) >= lines


@once
@pytest.mark.parametrize(
    ("prints", "gpus"),
    [
        ("echo 'An A1\nA B2'", ["An A1", "A B2"]),
        ("echo 'NVIDIA-SMI has failed'; exit 9", []),
    ],
)
def test_gpus_are_part_of_a_machine(prints, gpus, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert measure.machine()["gpus"] == []
    command = tmp_path / "nvidia-smi"
    command.write_text(f"#!/bin/sh\n{prints}\n")
    command.chmod(0o755)
    assert measure.machine()["gpus"] == gpus


@pytest.mark.parametrize(
    ("code", "errors"), [(-9, ""), (1, "RESOURCE_EXHAUSTED: 80 GB")]
)
def test_what_runs_out_of_memory_is_told_apart(code, errors, monkeypatch):
    ended = SimpleNamespace(
        returncode=code, communicate=lambda timeout: ("", errors), poll=lambda: code
    )
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: ended)
    assert measure.fresh(measure_sizes, {}) == {"error": "out of memory"}


@once
def test_with_a_limit_what_fails_is_a_row():
    task = {"shape": "none", "routing": "em"}
    assert "KeyError" in measure.fresh(measure_routing, task, limit=60.0)["error"]
    assert measure.fresh(measure_routing, task, limit=0.01)["error"].startswith("took")
