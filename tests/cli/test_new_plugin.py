"""A new plugin as its author meets it: written, installed, listed, trained, sampled and checked, nothing edited."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from gftzoo import __version__
from gftzoo.cli import main
from gftzoo.cli.new_plugin import TEMPLATE

ROOT = Path(__file__).parents[2]


def test_a_new_plugin_works_as_it_is() -> None:
    script = [sys.executable, str(ROOT / "tools" / "try_new_plugin.py"), "--quick"]
    done = subprocess.run(script, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "acme keeps the contract" in done.stdout
    assert "Installed by its metadata, listed, trained, sampled and checked." in done.stdout


def test_names_are_spelt_as_their_place_wants(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["new-plugin", "my-flow", "--out", str(tmp_path)])
    assert not stop.value.code
    folder = tmp_path / "gftzoo-my-flow"
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["name"] == "gftzoo-my-flow"
    assert project["entry-points"] == {"gftzoo.families": {"my-flow": "gftzoo_my_flow:MyFlowFamily"}}
    assert "class MyFlowFamily" in (folder / "gftzoo_my_flow" / "family.py").read_text()
    assert 'test_my_flow = conformance("my-flow")' in (folder / "tests" / "test_my_flow.py").read_text()
    assert not [path for path in folder.rglob("*") if path.is_file() and "acme" in path.read_text().casefold()]
    for path in folder.rglob("*.py"):
        compile(path.read_text(), str(path), "exec")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Hello World", "lower-case words joined by hyphens"),
        ("diffusion", "there is a family 'diffusion' already"),
        ("used", "exists already"),
    ],
)
def test_a_bad_name_is_one_sentence(name: str, words: str, tmp_path: Path, capsys) -> None:
    (tmp_path / "gftzoo-used").mkdir()
    (tmp_path / "gftzoo-used" / "file").write_text("mine")
    with pytest.raises(SystemExit) as stop:
        main(["new-plugin", name, "--out", str(tmp_path)])
    assert stop.value.code == 2 and words in capsys.readouterr().err


def test_the_template_fits_this_gftzoo() -> None:
    major, minor, _ = __version__.split(".")
    project = tomllib.loads((TEMPLATE / "pyproject.toml").read_text())["project"]
    assert project["dependencies"] == [f"gftzoo>={major}.{minor},<{major}.{int(minor) + 1}"]
    assert (TEMPLATE / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert len((TEMPLATE / "tests" / "test_acme.py").read_text().split("\n")) <= 4
