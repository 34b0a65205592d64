"""Discovery and isolation, with plugins written into a temporary folder on the path."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from plugin_site import SAMPLER, Site, forget, source

from gftzoo.cli import main
from gftzoo.data import open_source
from gftzoo.errors import PluginError, UsageError
from gftzoo.families.finding import load_family
from gftzoo.installed import report
from gftzoo.plugins.discovery import COMMANDS, FAMILIES, SOURCES, WRAPPERS, active, installed_plugins
from gftzoo.zoo import get_card, list_models

BROKEN = {
    "no-import": ({"code": "import does_not_exist"}, "failed to load (ModuleNotFoundError"),
    "exits": ({"code": "import sys; sys.exit(4)"}, "failed to load (SystemExit: 4"),
    "no-class": ({"code": "x = 1"}, "failed to load (AttributeError"),
    "lacks-hook": ({"code": source(last="")}, "lacks the required hook 'temperature_sampler'"),
    "misspelt": (
        {"code": source(last=SAMPLER + "\n    @hookimpl\n    def loss_tern(self, prediction): ...")},
        "loss_tern",
    ),
    "wrong-argument": (
        {"code": source(last=SAMPLER.replace("settings", "setings"))},
        "setings",
    ),
    "newer": ({"code": source(attributes="contract_version = 99")}, "contract 99 (a newer gftzoo)"),
    "older": ({"code": source(attributes="contract_version = 0")}, "contract 0 (an older gftzoo)"),
    "other-gftzoo": ({"code": source(), "requires": "gftzoo>=99"}, "needs gftzoo >=99"),
    "other-gftzoo-in-two-lines": ({"code": source(), "requires": "gftzoo\n  >=99"}, "needs gftzoo >=99"),
    "bad-registry": ({"code": source(), "registry": "models: [1, 2"}, "not a valid registry"),
    "wrong-registry": ({"code": source(), "registry": "models: {a: {familly: x}}"}, "registry.yaml"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_named_with_its_reason(site: Site, case: str) -> None:
    arguments, reason = BROKEN[case]
    site.install(case, **arguments)
    (plugin,) = [p for p in installed_plugins() if p.name == case]
    found = report(plugin)
    assert found.state == "broken" and reason in found.reason
    if "registry" not in case:
        assert f"'{case}' ({case} 1.2)" in found.reason


def test_a_clash_names_both_sides(site: Site) -> None:
    site.install("first", source(), family="shared")
    site.install("second", source(), family="shared")
    with pytest.raises(PluginError, match=r"'shared' is claimed by first 1.2 and second 1.2"):
        load_family("shared")


def test_only_and_block(site: Site, monkeypatch) -> None:
    site.install("acme", source())
    assert load_family("acme").name == "acme"
    forget()
    monkeypatch.setenv("GFTZOO_BLOCK", "acme")
    with pytest.raises(PluginError, match="blocked"):
        load_family("acme")
    monkeypatch.delenv("GFTZOO_BLOCK")
    monkeypatch.setenv("GFTZOO_ONLY", "acme")
    assert [p.name for p in active(FAMILIES)] == ["acme"]


def test_a_missing_family_shows_the_pip_command(site: Site) -> None:
    site.install("acme", source(), registry="families: {ghost: {distribution: gftzoo-ghost, nano: ghost-nano}}")
    with pytest.raises(PluginError, match="pip install gftzoo-ghost"):
        load_family("ghost")


def test_listing_reads_a_plugins_registry_without_importing_it(site: Site) -> None:
    registry = """
models:
  acme-1: {family: acme, parameters: 5, resolution: 8, tokenizer: pixels}
"""
    site.install("acme", "raise RuntimeError('imported')", registry=registry)
    assert [card.name for card in list_models("acme*")] == ["acme-1"]
    assert "plugin_acme" not in sys.modules


def test_a_plugin_cannot_replace_a_model_of_the_zoo(site: Site) -> None:
    registry = "models: {dit-xl: {family: acme, parameters: 5, resolution: 8, tokenizer: pixels}}"
    site.install("acme", source(), registry=registry)
    assert get_card("dit-xl").family == "diffusion"


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(words)
    return int(stop.value.code or 0)


def test_commands_work_beside_broken_plugins_and_name_them(site: Site, tmp_path: Path, capsys) -> None:
    for case, (arguments, _) in BROKEN.items():
        site.install(case, **arguments)
    for name in ("first", "second"):
        site.install(name, source(), family="shared")
    assert call("list", "dit-nano") == 0
    small = ("--steps", "1", "-obatch_size=4", "-oema_decay=null", "-osample_grid=[1, 1]")
    assert call("train", "dit-nano", "--gft", *small, "--runs", str(tmp_path / "runs"), "--name", "run") == 0
    capsys.readouterr()
    assert call("plugins", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    broken = {row["distribution"]: row for row in rows if row["state"] == "broken"}
    assert broken.keys() == {*BROKEN, "first", "second"}
    assert all(row["version"] == "1.2" for row in broken.values())
    assert all(words in broken[case]["reason"] for case, (_, words) in BROKEN.items())
    assert "claimed by first 1.2 and second 1.2" in broken["first"]["reason"]
    assert next(row["state"] for row in rows if row["plugin"] == "diffusion") == "ok"


def test_metadata_that_changes_is_read_anew(site: Site) -> None:
    site.install("acme", source())
    assert "acme" in {plugin.name for plugin in installed_plugins()}
    (site.folder / "acme-1.2.dist-info" / "entry_points.txt").write_text(f"[{FAMILIES}]\nother = plugin_acme:Family\n")
    installed_plugins.cache_clear()
    assert {"acme", "other"} & {plugin.name for plugin in installed_plugins()} == {"other"}


def test_a_command_of_a_plugin_is_imported_when_it_is_called(site: Site, capsys) -> None:
    code = (
        "import click\n@click.command('greet')\n@click.argument('name')\ndef greet(name):\n    click.echo(name * 2)\n"
    )
    site.install("acme", code, family="greet", group=COMMANDS, attribute="greet")
    site.install("fails", "import sys; sys.exit(4)", group=COMMANDS)
    assert call("--help") == 0
    assert "From acme 1.2." in capsys.readouterr().out and "plugin_acme" not in sys.modules
    assert call("greet", "ab") == 0
    assert capsys.readouterr().out == "abab\n"
    assert call("fails") == 3
    assert "failed to load (SystemExit: 4)" in capsys.readouterr().err


def test_a_data_source_of_a_plugin(site: Site) -> None:
    code = (
        "from gftzoo.data import open_source\ndef reopen(argument, split):\n    return open_source('digits', argument)"
    )
    site.install("acme", code, family="my-digits", group=SOURCES, attribute="reopen")
    assert len(open_source("my-digits:held-out")) == len(open_source("digits", "held-out"))
    with pytest.raises(UsageError, match="did you mean 'my-digits'"):
        open_source("my-digit")


def test_listing_many_plugins_imports_none(site: Site, capsys) -> None:
    card = "{{family: fam{0}, parameters: 5, resolution: 8, tokenizer: pixels}}"
    for index in range(50):
        registry = f"models: {{many-{index}: {card.format(index)}}}"
        site.install(f"fam{index}", "raise RuntimeError('imported')", registry=registry)
    assert call("list", "many-*", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["plugin"] for row in rows} == {f"fam{index}" for index in range(50)}
    assert not [module for module in sys.modules if module.startswith("plugin_")]


WRAPS = """
from gftzoo.contract.hookspecs import hookimpl
class Family:
    contract_version = {0}
    @hookimpl(wrapper=True)
    def {1}(self):
        return (yield)
"""


@pytest.mark.parametrize(
    ("version", "hook", "state"), [(1, "loss_term", "ok"), (1, "predict", "broken"), (2, "predict", "ok")]
)
def test_a_plugin_of_the_first_contract_is_taken_unless_it_wraps_predictions(
    site: Site, version: int, hook: str, state: str
) -> None:
    site.install("old", source(attributes="contract_version = 1"))
    site.install("wrap", WRAPS.format(version, hook), group=WRAPPERS)
    found = {p.name: report(p) for p in installed_plugins() if p.name in ("old", "wrap")}
    assert found["wrap"].state == state and ("since contract 2" in found["wrap"].reason) == (state == "broken")
    if state == "ok":
        assert found["old"].state == "ok"
