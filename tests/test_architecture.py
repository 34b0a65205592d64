"""The floors of the package, as `pyproject.toml` lists them: a module imports only from floors below its own.

A failure names the import that goes upwards. Move what is wanted down, pass it in, or let the caller live higher up;
docs/contributing.md says what belongs on which floor. Besides: how long files and functions may be (tools/house.py),
what that page shows of the code, and where tests lie.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import house
import pytest

ROOT = Path(__file__).parents[1]
LINTER = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
FLOORS = [floor for line in LINTER["contracts"][0]["layers"] for floor in line.split(" | ")]


def test_imports_run_one_way_and_no_family_knows_another() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    found = subprocess.run([*command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("gftzoo", exclude_type_checking_imports=True, cache_dir=None)


def test_every_module_is_on_a_floor(graph: grimp.ImportGraph) -> None:
    rooms = {name for name in graph.modules if name.count(".") == 1} - {"gftzoo.__main__", "gftzoo.template"}
    assert rooms == set(FLOORS)


def test_no_two_modules_wait_for_each_other(graph: grimp.ImportGraph) -> None:
    waiting = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    while free := [name for name, wanted in waiting.items() if not wanted & waiting.keys()]:
        for name in free:
            del waiting[name]
    assert not waiting, f"in a circle, or above one: {sorted(waiting)}"


def test_the_contributing_page_tells_of_every_floor() -> None:
    page = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
    assert [floor for floor in FLOORS if f"`{floor.removeprefix('gftzoo.')}`" not in page] == []


def test_files_and_functions_are_read_at_once_and_imports_stand_at_the_top() -> None:
    assert house.look().complaints() == []


@pytest.mark.parametrize("tool", ["floors", "step_files"])
def test_the_picture_of_the_floors_and_the_story_of_a_step_are_current(tool: str) -> None:
    command = [sys.executable, str(ROOT / "tools" / f"{tool}.py")]  # of its own: what is cached here is not entered
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


ABOUT_ALL = {"architecture", "behaviour", "docs", "no_remote_code", "project_files"}


def test_tests_lie_where_the_code_does() -> None:
    """The tests of a package lie in a folder of its name, those of a module in `test_NAME.py`."""
    tests, core = ROOT / "tests", ROOT / "gftzoo"
    folders = {path.name for path in tests.iterdir() if list(path.glob("test_*.py"))}
    assert {name for name in folders if not (core / name / "__init__.py").is_file()} <= {"tools"}
    files = {path.stem.removeprefix("test_") for path in tests.glob("test_*.py")}
    assert {name for name in files if not (core / f"{name}.py").is_file()} <= ABOUT_ALL
