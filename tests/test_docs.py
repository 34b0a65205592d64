"""The documentation does what it says: its files make packages that work, its Python runs, its commands exist."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
import torch
import yaml
from gftzoo_diffusion.processes import PROCESSES

import gftzoo
from gftzoo import cli, documents, engine, zoo
from gftzoo.catalogue import cards
from gftzoo.catalogue.cards import Checkpoint, ModelCard
from gftzoo.catalogue.registry import read_registry, zoo_registry
from gftzoo.cli import limits, sample
from gftzoo.contract.hookspecs import GenerativeFamily
from gftzoo.data import settings, shards
from gftzoo.engine.run import estimate
from gftzoo.evaluate.sweep import MOST_VALUES
from gftzoo.families import finding
from gftzoo.families.finding import load_family
from gftzoo.generator import SampleGenerator
from gftzoo.hub import address_of
from gftzoo.layers import lora_options
from gftzoo.plugins import discovery
from gftzoo.plugins.discovery import GROUPS
from gftzoo.zoo import get_card

ROOT = Path(__file__).parent.parent


def tool(name: str) -> ModuleType:
    """A module of tools/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


docs = tool("docs_snippets")
made = tool("docs_pages")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "plugins").glob("*/README.md"))]
SMALL = {
    "train": ["--steps", "2", "-o", "batch_size=4", "-o", "ema_decay=0.5", "-o", "sample_grid=[1, 2]"],
    "sample": ["--steps", "2", "-n", "2"],
    "sweep": ["--steps", "2", "-n", "20", "--few"],
    "check-plugin": ["--quick"],
    "evaluate": ["--steps", "2", "-n", "20", "--few"],
}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def runnable(page: Path, language: str) -> list[Any]:
    return [s for s in docs.snippets(page) if s.language == language and s.runs and not s.file]


def call(*words: str) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    assert stop.value.code == 0, f"gftzoo {' '.join(words)} ended with {stop.value.code}"


def forget() -> None:
    """What gftzoo remembers of the installed plugins."""
    for module in (discovery, finding, zoo):
        for member in vars(module).values():
            if hasattr(member, "cache_clear"):
                member.cache_clear()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to work in; packages made there can be imported, and are forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    monkeypatch.undo()
    forget()
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


def install(page: Path, folder: Path) -> None:
    for package in docs.write_files(page, folder):
        docs.make_importable(package)
        sys.path.insert(0, str(package))
    forget()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of dit-nano, which the snippets of several pages load."""
    folder = tmp_path_factory.mktemp("runs")
    call("train", "dit-nano", "--gft", *SMALL["train"], "--runs", str(folder))
    return folder


PACKAGES = [page for page in PAGES if docs.files(page)]
PYTHON = [page for page in PAGES if page not in PACKAGES and runnable(page, "python")]
SHELL = [page for page in PAGES if runnable(page, "sh")]


@pytest.mark.parametrize("page", PACKAGES, ids=name_of)
def test_the_package_that_a_page_builds_works(page: Path, place: Path) -> None:
    """Every file is written, every command run (with few steps) and all Python executed, in the page's order."""
    install(page, place)
    for snippet in docs.snippets(page):
        if snippet.runs and not snippet.file and snippet.language == "python":
            execute(page, [snippet])
        elif snippet.runs and snippet.language == "sh":
            for words in docs.commands(snippet):
                if words[0] == "gftzoo":
                    call(*words[1:], *SMALL.get(words[1], []))


@pytest.mark.parametrize("page", PYTHON, ids=name_of)
def test_the_python_of_a_page_runs(page: Path, place: Path, run: Path) -> None:
    shutil.copytree(run, place / "runs")
    execute(page, runnable(page, "python"))


def execute(page: Path, blocks: list[Any]) -> None:
    space: dict[str, Any] = {}
    for block in blocks:
        exec(compile("\n" * block.line + block.text, name_of(page), "exec"), space)


@pytest.mark.parametrize("page", SHELL, ids=name_of)
def test_the_commands_of_a_page_exist(page: Path, place: Path) -> None:
    """Commands and options parse; models, recipes, settings and scripts that they name are there."""
    install(page, place)
    for block in runnable(page, "sh"):
        for words in docs.commands(block):
            try:
                check_command(words)
            except (click.ClickException, gftzoo.GftzooError) as error:
                pytest.fail(f"{name_of(page)}: {' '.join(words)}: {error}")


DATA = [page for page in PAGES if any(s.language in ("toml", "yaml") for s in docs.snippets(page))]


@pytest.mark.parametrize("page", DATA, ids=name_of)
def test_the_toml_and_yaml_of_a_page_is_valid(page: Path, tmp_path: Path) -> None:
    for block in docs.snippets(page):
        if block.language == "toml":
            groups = tomllib.loads(block.text)["project"].get("entry-points", {})
            assert set(groups) <= set(GROUPS)
        elif block.language == "yaml":
            part = yaml.safe_load(block.text)
            for fields in part.pop("checkpoints", {}).values():
                Checkpoint.model_validate(fields)
            (tmp_path / "registry.yaml").write_text(yaml.safe_dump(part), encoding="utf-8")
            read_registry(tmp_path / "registry.yaml", zoo_registry())


WRONG = {
    "no such command": "gftzoo trian dit-nano --gft",
    "no such option": "gftzoo sample runs/a --betta 0.5",
    "no such choice": "gftzoo sample runs/a --schedule cubic",
    "no such model": "gftzoo train dit-nanno --gft",
    "no such setting of the run": "gftzoo train dit-nano --gft -o batchsize=3",
    "no such network option": "gftzoo train dit-nano --gft -o network.depht=3",
    "no such checkpoint": "gftzoo train dit-s --gft --weights base",
    "no such recipe": "gftzoo train dit-nano --gft --recipe fast",
    "no such data": "gftzoo train dit-nano --gft --data imagefolders:photos",
    "no such sampler setting": "gftzoo sample dit-xl --weights gft -s step=3",
    "no such script option": "python tools/benchmark.py --no-such-option",
    "the second of two": "pip install . && .venv/bin/gftzoo train dit-nanno --gft",
    "no such program": "gftzo list",
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_command_would_be_found(case: str) -> None:
    with pytest.raises((click.ClickException, gftzoo.GftzooError, AssertionError)):
        check_command(WRONG[case].split())


def check_command(words: list[str]) -> None:
    if "&&" in words:
        cut = words.index("&&")
        check_command(words[cut + 1 :])
        words = words[:cut]
    while "=" in words[0] and words[0].split("=")[0].isupper():  # VARIABLE=value command
        words = words[1:]
    if words[0] == "torchrun" and "gftzoo" in words:
        words = words[words.index("gftzoo") :]
    assert Path(words[0]).name in docs.PROGRAMS, f"{words[0]!r} is no program that the documentation uses"
    if Path(words[0]).name == "gftzoo":
        check_gftzoo(words[1], words[2:])
    elif len(words) > 1 and words[1].endswith(".py"):
        script = ROOT / words[1]
        missing = [w for w in words[2:] if w.startswith("--") and f'"{w}"' not in script.read_text(encoding="utf-8")]
        assert not missing, f"{words[1]} has no option {missing[0]}"


def check_gftzoo(name: str, arguments: list[str]) -> None:
    command = cli.built_in(name) if name in cli.BUILT_IN else None
    assert command is not None, f"there is no command {name!r}"
    given = command.make_context(name, list(arguments)).params
    names = [given.get("model"), given.get("subject"), *(given.get("models") or ())]
    cards = [get_card(name) for name in names if name and "/" not in name and not name.endswith(".npz")]
    weights = given.get("weights")
    if weights and cards and "/" not in weights and "." not in weights:
        assert weights in cards[0].checkpoints, f"{cards[0].name} has no checkpoint {weights!r}"
    elif weights and cards and address_of(weights) is None:  # a file of the reader's, which has to be there
        Path(weights).parent.mkdir(parents=True, exist_ok=True)
        Path(weights).touch()
    if name == "train" and cards:
        check_training(given)
    if given.get("settings") and cards:
        settings = sample.parse_settings(given["settings"], given["steps"], given["sampler"])
        load_family(cards[0].family).sampler_settings(cards[0], **settings)


def check_training(given: dict[str, Any]) -> None:
    from gftzoo.data import sources

    kind, has_path, _ = (given["data"] or "digits").partition(":")
    assert kind in sources.kinds(), f"there is no data {kind!r}"
    fetched = address_of(given["weights"]) is not None  # from the hub, which is not asked here
    if given["weights"] and not fetched and not set("/.").isdisjoint(given["weights"]):  # a file or run of the reader's
        Path(given["weights"]).parent.mkdir(parents=True, exist_ok=True)
        Path(given["weights"]).touch()
    config = engine.resolve(
        given["model"],
        objective=given["objective"] or "gft",
        data=None if has_path else given["data"],
        recipe=given["recipe"],
        weights=None if fetched else given["weights"],
        options=engine.parse_options(given["options"]) | ({"validation": "held-out"} if given["validation"] else {}),
    )
    config.card.network_options(load_family(config.card.family).options().network)


def test_the_weighting_of_the_example_is_min_snr(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def losses(model: gftzoo.Model) -> tuple[Any, Any]:
        generator = SampleGenerator(range(64))
        problem = model.family.draw_problem(model, generator.normal(1, 8, 8), generator)
        prediction = generator.normal(1, 8, 8).repeat(1, 2, 1, 1)
        return problem, model.family.loss_term(model, prediction, problem)

    _, plain_B = losses(gftzoo.load("dit-nano"))
    install(ROOT / "docs" / "wrappers.md", place)
    problem, weighted_B = losses(gftzoo.load("dit-nano"))
    signal_B = PROCESSES["linear"].variances().alpha_bar_K.float()[problem.t]
    weight_B = torch.minimum(5 * (1 - signal_B) / signal_B, torch.ones(64))  # min(SNR, 5) / SNR
    assert 0.01 < weight_B.min() < 0.5 and (weight_B == 1).any()
    torch.testing.assert_close(weighted_B, plain_B * weight_B)
    monkeypatch.setenv("GFTZOO_BLOCK", "min-snr")
    forget()
    assert torch.equal(losses(gftzoo.load("dit-nano"))[1], plain_B)


@pytest.mark.parametrize("name", made.hook_names())
def test_every_hook_is_documented(name: str) -> None:
    """By a docstring, by a section of the contract page with words of its own, and by who calls it."""
    assert made.documentation(getattr(GenerativeFamily, name)), f"{name} has no docstring"
    page = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
    _, found, section = page.partition(f"## {name}\n\n<!-- generated: hook {name} -->\n")
    assert found, f"docs/contract.md has no section for {name}"
    assert len(section.partition("\n## ")[0].split()) > 5, f"docs/contract.md says nothing about {name}"
    assert "`gftzoo/" in made.called_from(name), f"no module of the core calls {name}"


@pytest.mark.parametrize("name", list(cli.BUILT_IN))
def test_every_command_is_documented(name: str) -> None:
    command = cli.built_in(name)
    assert command.help
    silent = [p.name for p in command.params if isinstance(p, click.Option) and not p.help]
    assert not silent, f"option {silent[0]!r} of gftzoo {name} has no help"
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert "::: mkdocs-click\n    :module: gftzoo.cli\n    :command: gftzoo\n" in page  # which tells of all of them


def test_every_field_of_a_registry_is_documented() -> None:
    silent = [row for row in made.card_fields().splitlines() if row.startswith("| `") and row.endswith("|  |")]
    assert not silent
    assert all(f"| `{name}` |" in made.card_fields() for name in ModelCard.model_fields)


LIMITS = {
    "images of one `sample` or `evaluate`": limits.MOST_IMAGES,
    "images of a forward pass": limits.MOST_IN_BATCH,
    "sampling steps": limits.MOST_STEPS,
    "values of a sweep": MOST_VALUES,
    "rank of LoRA": lora_options.LARGEST_RANK,
    "modules of a network": estimate.MOST_PARTS,
    "side of an image": cards.LARGEST_SIDE,
    "area of a picture, before it is decoded": settings.LARGEST,
    "shards of a range in `stream:`": shards.MOST,
    "YAML file (`registry.yaml`, `config.yaml`)": documents.YAML.nodes,
    "JSON file (`card.json`, `state.json`, `manifest.json`)": documents.JSON.nodes,
    "levels of a YAML or JSON file": documents.JSON.depth,
}


@pytest.mark.parametrize("what", LIMITS)
def test_a_limit_is_what_the_page_says(what: str) -> None:
    (row,) = [
        line for line in (ROOT / "docs" / "limits.md").read_text("utf-8").splitlines() if line.startswith(f"| {what} |")
    ]
    assert f"{LIMITS[what]:,}" in row


def test_every_module_that_the_limits_name_is_there() -> None:
    named = set(re.findall(r"`(gftzoo/[\w/]+\.py)`", (ROOT / "docs" / "limits.md").read_text("utf-8")))
    assert named and not [path for path in named if not (ROOT / path).is_file()]


def test_every_model_is_in_the_table() -> None:
    text = made.models()
    assert all(f"| `{card.name}` |" in text for card in zoo_registry().models.values())


@pytest.mark.parametrize("page", [page for page in PAGES if made.MARKER.search(page.read_text("utf-8"))], ids=name_of)
def test_what_a_page_generates_is_there(page: Path) -> None:
    markdown = page.read_text(encoding="utf-8")
    assert len(made.generate(markdown)) > len(markdown) + 300
    assert markdown.count("<!-- generated:") == len(made.MARKER.findall(markdown))


def test_the_tutorial_is_short() -> None:
    shown = docs.files(ROOT / "docs" / "tutorial.md")
    lines = [line for name, text in shown.items() if name.endswith(".py") for line in text.splitlines() if line.strip()]
    assert 50 < len(lines) < 110
