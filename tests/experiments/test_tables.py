import shlex
from pathlib import Path

import scripts

from experiments import tables

PAGE = scripts.ROOT / "docs" / "results.md"


def test_every_table_is_on_the_page_and_every_run_is_known():
    page = PAGE.read_text()
    for name, table in tables.TABLES.items():
        assert f"<!-- {name} -->" in page and f"<!-- end of {name} -->" in page
        assert set(table.runs) <= set(tables.RUNS)
    used = {run for table in tables.TABLES.values() for run in table.runs}
    assert used == set(tables.RUNS)


def test_the_commands_of_runs_name_scripts_that_are_there():
    for command in tables.RUNS.values():
        python, first, second, *_ = shlex.split(command)
        module = f"{second.replace('.', '/')}.py" if first == "-m" else first
        assert python == "python" and Path(scripts.ROOT, module).exists(), command
