"""The notebooks run in Jupyter and show their figures."""

import re
from pathlib import Path

import pytest
from helpers import once

jupytext = pytest.importorskip("jupytext")
NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.py"))
# What each shows, and how many figures it has.
SHOWN = {
    "first_steps": ("val_accuracy", 3),
    "look_inside": ("effective_parents", 2),
    "own_routing": ("tempered", 0),
}


@once
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_and_shows_its_figures(path, tmp_path):
    from nbclient import NotebookClient

    text = re.sub(r"epochs=\d+", "epochs=1", path.read_text())
    notebook = jupytext.reads(text, fmt="py:percent")
    NotebookClient(notebook, kernel_name="python3", timeout=300).execute(cwd=tmp_path)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    said, figures = SHOWN[path.stem]
    assert said in str(outputs)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == figures
