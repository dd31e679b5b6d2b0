import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from helpers import once

ROOT = Path(__file__).parents[1]
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(
        ".__init__"
    ): path
    for path in (ROOT / "keras_capsules").rglob("*.py")
}
TREES = {module: ast.parse(path.read_text()) for module, path in FILES.items()}
FOLDERS = {module.split(".")[1] for module in FILES if module != "keras_capsules"}


def names(cell):
    return {
        name.strip("/").removesuffix(".py") for name in re.findall("`([^`]+)`", cell)
    }


# What each folder may import of the others, by the table of CONTRIBUTING.md.
ROWS = re.findall(
    r"^\| (`.*?) \| .*? \| (.*?) \|$",
    (ROOT / "CONTRIBUTING.md").read_text(),
    re.MULTILINE,
)
TABLE = {
    folder: names(allowed) for folders, allowed in ROWS for folder in names(folders)
}


def imported(statements):
    """The modules of the package that statements import."""
    for node in statements:
        found = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in found:
            if name.split(".")[0] == "keras_capsules":
                yield name if name in FILES else name.rpartition(".")[0]


@once
def test_the_table_names_every_folder():
    assert TABLE.keys() - {"examples", "experiments"} == FOLDERS
    assert set().union(*TABLE.values()) <= FOLDERS


@once
@pytest.mark.parametrize("folder", sorted(FOLDERS))
def test_a_folder_imports_what_the_table_says(folder):
    for module, tree in TREES.items():
        if module.split(".")[1:2] != [folder]:
            continue
        for other in imported(ast.walk(tree)):
            of = other.split(".")[1]
            assert of in {folder, *TABLE[folder]}, f"{module} imports {other}"
            private = any(part.startswith("_") for part in other.split(".")[2:])
            assert of == folder or not private, f"{module} imports {other}"


@once
def test_no_import_runs_in_a_circle():
    # A folder imports its files when it is imported; functions when they are called.
    graph = {module: set(imported(tree.body)) for module, tree in TREES.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(FILES)


@once
def test_only_the_folder_of_backends_asks_which_one_runs():
    for module, tree in TREES.items():
        asks = any(
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "backend"
            for node in ast.walk(tree)
        )
        assert not asks or module.startswith("keras_capsules._backend."), module
