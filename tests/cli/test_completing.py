"""What a shell is given to complete a command line with."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from gftzoo.cli import gftzoo


def completed(words: list[str], begun: str) -> list[str]:
    found = ShellComplete(gftzoo, {}, "gftzoo", "_GFTZOO_COMPLETE").get_completions(words, begun)
    return [item.value for item in found]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("dit-nano-gft", "other"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    (tmp_path / "runs" / "dit-nano-gft" / "config.yaml").touch()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("words", "begun", "expected"),
    [
        (["train"], "dit-na", ["dit-nano"]),
        (["train", "--resume"], "runs/", ["runs/dit-nano-gft"]),
        (["sample"], "ru", ["runs/dit-nano-gft"]),
        (["demo", "dit-nano"], "runs/d", ["runs/dit-nano-gft"]),
        (["push"], "", ["runs/dit-nano-gft"]),
        ([], "swe", ["sweep"]),
    ],
)
def test_models_runs_and_commands_are_completed(words: list[str], begun: str, expected: list[str]) -> None:
    assert completed(words, begun) == expected
