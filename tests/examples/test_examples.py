"""What holds of each example."""

import ast

import pytest
import scripts

import keras_capsules

SCRIPTS = sorted(scripts.EXAMPLES.glob("*.py"))
TRAININGS = [script for script in SCRIPTS if script.stem.startswith("train_")]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_it_imports_the_public_api_alone(script):
    rooms = set()
    nodes = list(ast.walk(ast.parse(script.read_text())))
    for node in nodes:
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module]
            if node.module == "keras_capsules":
                rooms |= {alias.name for alias in node.names}
        else:
            continue
        ours = {other.stem for other in SCRIPTS} | {"examples", "experiments"}
        for module in modules:
            assert not module.startswith("keras_capsules."), module
            assert module.partition(".")[0] not in ours, module
    assert rooms <= set(keras_capsules.__all__)
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert f"{node.value.id}.{node.attr}" != "sys.path"
            if node.value.id in rooms:
                public = getattr(keras_capsules, node.value.id).__all__
                assert node.attr in public, f"{node.value.id}.{node.attr}"


@pytest.mark.parametrize("script", TRAININGS, ids=lambda script: script.stem)
def test_a_training_shows_compile_and_fit(script):
    text = script.read_text()
    assert "model.compile(" in text and "model.fit(" in text


@pytest.mark.parametrize("folder", ["examples", "experiments"])
def test_tests_mirror_the_scripts(folder):
    for path in (scripts.ROOT / folder).glob("*.py"):
        test = scripts.ROOT / "tests" / folder / f"test_{path.name}"
        assert path.stem == "__init__" or test.exists(), test
