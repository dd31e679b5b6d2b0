import re
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_ten_lines_run():
    code = re.search(r"## Ten lines\n\n```python\n(.*?)```", README, re.DOTALL)[1]
    scope = {}
    exec(code.replace("epochs=5", "epochs=1, steps_per_epoch=2, verbose=0"), scope)
    assert scope["model"].output_shape == (None, 10)


def test_the_lines_of_the_matrix_capsules_run():
    (code,) = re.findall(r"```python\n([^`]*MatrixCapsNet.*?)```", README, re.DOTALL)
    scope = {}
    exec(code.replace("epochs=5", "epochs=1, steps_per_epoch=2, verbose=0"), scope)
    assert scope["model"].count_params() == 68_444


def test_the_lines_of_the_layers_make_a_model_that_trains():
    (code,) = re.findall(r"```python\n([^`]*EMRoutingCapsule.*?)```", README, re.DOTALL)
    scope = {}
    exec(code, scope)
    loss, accuracy = scope["model"].train_on_batch(
        np.zeros((2, 28, 28, 1)), np.array([0, 1])
    )
    assert loss > 0 and accuracy == 0.5


def test_links_lead_somewhere():
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)]+)\)", prose):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\S+)", README, re.MULTILINE):
        assert f"\n{target}:" in makefile, target


def test_no_placeholder_is_left():
    assert "@@" not in README
