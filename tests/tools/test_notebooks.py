"""The notebooks run from their first cell to their last, with few steps."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.py"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STEPS", "3")
    monkeypatch.setenv("IMAGES", "20")
    space = runpy.run_path(str(notebook))
    assert len(space["records"]) == 4 and space["records"][0].measure.images == 20
    assert float((space["one"][0] - space["several"][0]).abs().max()) == 0
    (curves,) = tmp_path.glob("runs/*/curves.png")
    assert curves.stat().st_size > 1000


def test_there_is_a_notebook() -> None:
    assert NOTEBOOKS
