"""Bad input of every kind, over all commands: one sentence that names it, and nothing written."""

from __future__ import annotations

import os
import shlex
import warnings
from pathlib import Path

import pytest
from refusals import RESUMED, ROWS
from refused_files import damage_runs, write_files

from gftzoo.cli import main
from gftzoo.engine.step.loop import StepLoop

SMALL = "--steps 2 -o batch_size=4 -o network.depth=1 -o network.width=32 -o sample_grid=[1,1]"
UNSEEN = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning, FutureWarning)
LONG = "n" * 300


def call(words: list[str]) -> int:
    with pytest.raises(SystemExit) as stop:
        main(words)
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two tiny runs, what is wrong with files, and a free place."""
    base = tmp_path_factory.mktemp("refusals")
    for name, objective in (("run", "--gft"), ("plain", "--objective conditional")):
        assert call(shlex.split(f"train dit-nano {objective} {SMALL} --runs {base} --name {name}")) == 0
    bad = base / "bad"
    write_files(bad)
    damage_runs(base / "run", bad)
    (base / "here").mkdir()
    named = {"run": base / "run", "plain": base / "plain", "bad": bad, "runs": base, "out": base / "here" / "out"}
    return {key: str(path) for key, path in named.items()} | {"long": LONG}


@pytest.fixture
def here(places: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of all places; nothing may get as far as training, which may take any time and any memory."""
    base = Path(places["runs"])
    monkeypatch.chdir(base / "here")
    monkeypatch.setattr(StepLoop, "run", lambda self: pytest.fail("training began"))
    return base


def listing(base: Path) -> dict[str, tuple[int, int]]:
    """Every file with its size and change time."""
    found = {}
    for folder, _, files in os.walk(base):
        for name in files:
            path = Path(folder) / name
            status = path.lstat()
            found[str(path)] = (status.st_size, status.st_mtime_ns)
    return found


def test_there_are_rows_enough() -> None:
    assert len(ROWS) >= 150


@pytest.mark.parametrize("row", ROWS)
def test_bad_input_is_refused(row: str, places: dict[str, str], here: Path, capsys) -> None:
    text, named = ROWS[row]
    words = [word.format(**places) for word in shlex.split(text)]
    before = listing(here)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        code = call(words)
    out, err = capsys.readouterr()
    lines = err.rstrip("\n").split("\n")
    assert 1 <= code <= 3, err
    assert lines[-1].startswith("Error: ") and lines[-1].isprintable(), err
    assert [line for line in lines if "Error" in line] == lines[-1:] and named in lines[-1], err
    assert "Error: unexpected" not in err and "Traceback" not in err + out
    assert not [str(w.message) for w in caught if not issubclass(w.category, UNSEEN)]
    if row in RESUMED:
        assert listing(here).keys() == before.keys()
    else:
        assert listing(here) == before
