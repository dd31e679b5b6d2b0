import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SHORT = "epochs=1, steps_per_epoch=1, validation_steps=1, verbose=0"


def test_the_ten_lines_run():
    code = re.search(r"## Ten lines\n\n```python\n(.*?)```", README, re.DOTALL)[1]
    scope = {}
    exec(code.replace("epochs=5", SHORT), scope)
    assert scope["model"].output_shape == (None, 10)


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\S+)", README, re.MULTILINE):
        assert f"\n{target}:" in makefile, target


def test_no_placeholder_is_left():
    assert "@@" not in README


def test_it_fits_on_a_page():
    assert len(README.splitlines()) <= 200
