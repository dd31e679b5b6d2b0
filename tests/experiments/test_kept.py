import os

import pytest

from experiments import kept


def test_metrics_of_networks_that_have_changed(tmp_path):
    network, metrics = tmp_path / "best.keras", tmp_path / "metrics.json"
    assert not kept.is_up_to_date(metrics, [network])
    metrics.touch()
    os.utime(metrics, (2, 2))
    assert kept.is_up_to_date(metrics, [network])
    network.touch()
    assert not kept.is_up_to_date(metrics, [network])
    os.utime(network, (1, 1))
    assert kept.is_up_to_date(metrics, [network])


@pytest.mark.parametrize("code", [0, 2])
def test_a_run_that_is_interrupted_is_the_last(tmp_path, monkeypatch, capsys, code):
    class Process:
        def __init__(self, command):
            self.codes = iter([KeyboardInterrupt, code])

        def wait(self):
            found = next(self.codes)
            if found is KeyboardInterrupt:
                raise found
            return found

    monkeypatch.setattr(kept.subprocess, "Popen", Process)
    with pytest.raises(SystemExit, match=str(code or 130)):
        kept.keep("cnn", "python -m what", 0, tmp_path / "runs", tmp_path / "results")
    assert not (tmp_path / "results").exists()
    assert capsys.readouterr().out.endswith("The same command goes on with cnn.\n")


def test_machines_in_words():
    processor = {"processor": "abacus", "cores": 2, "backend": "tensorflow"}
    gpu = {**processor, "gpus": ["An A1"], "backend": "jax"}
    found = kept.machines({"machine": where} for where in (processor, gpu, processor))
    assert found == "2 cores of abacus, tensorflow; An A1, 2 cores of abacus, jax"
    assert kept.machines([]) == ""


def test_results_of_all_seeds(tmp_path):
    for name, text in {"em": "0", "em_seed1": "1", "em_seed0_jax": "2"}.items():
        (tmp_path / f"{name}.json").write_text(text)
    (tmp_path / "em_shared.json").write_text("3")
    assert kept.results_of("em", tmp_path) == [0, 2, 1]
    assert kept.results_of("uniform", tmp_path) == []
