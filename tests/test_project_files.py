"""What others find beside the code: citation, workflows, the image of the demo, the notes of a release."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from tool import load

import gftzoo

ROOT = Path(__file__).parents[1]
PLUGINS = sorted(path.parent.name for path in (ROOT / "plugins").glob("*/pyproject.toml"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_the_citation_is_of_this_version() -> None:
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert found["version"] == gftzoo.__version__ and found["license"] == "Apache-2.0" and found["authors"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_names_scripts_and_extras_that_are_there(path: Path) -> None:
    text = path.read_text("utf-8")
    assert yaml.safe_load(text)["jobs"]
    extras = (ROOT / "pyproject.toml").read_text("utf-8")
    for name in re.findall(r"-e \.\[([\w,]+)\]", text):
        assert all(re.search(rf"^{extra} = ", extras, re.MULTILINE) for extra in name.split(","))
    assert all((ROOT / script).is_file() for script in re.findall(r"python (tools/\S+\.py)", text))


@pytest.mark.parametrize("name", [".github/workflows/test.yml", "Dockerfile", "README.md"])
def test_every_plugin_is_installed(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    assert PLUGINS and not [plugin for plugin in PLUGINS if f"plugins/{plugin}" not in text]


def test_the_demo_of_the_compose_file_is_a_command(tmp_path: Path) -> None:
    from gftzoo.cli import built_in

    (service,) = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"].values()
    words = re.sub(r"\$\{(\w+)[^}]*\}", r"\1", service["command"]).replace('"', "").split()
    given = built_in(words[0]).make_context(words[0], words[1:]).params
    assert given["models"] == ("runs/RUN",) and given["port"] == 7860 and given["host"] == "0.0.0.0"
    assert json.dumps(service["volumes"]).endswith(':ro"]')


def test_a_release_has_notes() -> None:
    notes = load("release_notes").notes
    assert notes("2.0", "# C\n\n## 2.0 (x)\n\n- a\n\n## 1.0\n\n- b\n") == "- a\n"
    with pytest.raises(ValueError, match="says nothing of"):
        notes("3.0", "## 2.0\n\n- a\n")
    assert load("release_notes").package_version() == gftzoo.__version__
    assert notes(gftzoo.__version__, (ROOT / "CHANGELOG.md").read_text("utf-8")).startswith("- ")


def test_links_of_the_top_level_pages_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)", (ROOT / "CONTRIBUTING.md").read_text("utf-8")):
        assert (ROOT / target).exists(), target
