"""What a command imports before it answers: the seconds of its start are those of its imports."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from tool import load

from gftzoo.catalogue import registry
from gftzoo.cli.cost import traced
from gftzoo.cli.family_facts import family_facts
from gftzoo.cli.known import code_state, known
from gftzoo.cli.shipped import shipped
from gftzoo.engine import plan
from gftzoo.engine.parallel.place import Place
from gftzoo.engine.run.estimate import training_cost
from gftzoo.engine.run.wanted import Wanted
from gftzoo.errors import UsageError
from gftzoo.zoo import get_card

shipped_facts, shipped_costs, shipped_registry = map(load, ("shipped_facts", "shipped_costs", "shipped_registry"))
SLOW = ("torch", "transformers", "peft", "timm", "torchvision", "diffusers", "mmengine", "torch._dynamo")


def loaded_by(code: str, asked: tuple[str, ...] = SLOW, **environment: str) -> set[str]:
    """Which of the packages a fresh process has imported after it ran the code."""
    words = [sys.executable, "-c", f"{code}\nimport sys; print(*[name for name in {asked} if name in sys.modules])"]
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin"} | environment
    )
    return set(done.stdout.splitlines()[-1].split()) if done.stdout.strip() else set()


def command(*words: str) -> str:
    return f"from gftzoo.cli import main\ntry: main({words!r})\nexcept SystemExit: pass"


FAMILIES = "\n".join(f"import gftzoo_{name}" for name in ("diffusion", "llamagen", "mar", "sd", "var"))


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import gftzoo.engine", set()),
        (command("sample", "dit-nanoo"), set()),
        (command("train", "dit-nanoo", "--gft"), set()),
        (command("train", "dit-nano", "--gft", "-o", "batchsize=4"), set()),
        (FAMILIES, {"torch"}),
        ("import gftzoo.engine.run.runner, gftzoo.cli.cost", {"torch", "mmengine"}),
    ],
)
def test_nothing_slow_is_imported_that_is_not_needed(code: str, allowed: set[str]) -> None:
    assert loaded_by(code) <= allowed


def test_no_plugin_imports_what_loads_weights_or_trains_before_it_is_asked_to() -> None:
    assert loaded_by(command("plugins"), ("torch", "gftzoo.model", "gftzoo.loading", "gftzoo.engine")) == {"torch"}


def test_what_a_command_imports_is_no_garbage_and_garbage_is_looked_for_afterwards() -> None:
    code = f"import gc\n{command('plugins')}\nimported, enabled = gc.get_freeze_count() > 100_000, gc.isenabled()"
    missing = "from gftzoo.cli.lazy import does\ntry: does('nowhere:nothing')(lambda: None)()\nexcept ImportError: pass"
    for each in (code, f"import gc\n{missing}\nimported, enabled = True, gc.isenabled()"):
        assert loaded_by(f"{each}\nassert imported and enabled", ("torch",)) <= {"torch"}


def test_help_and_the_list_import_no_more_than_they_show() -> None:
    asked = ("pydantic", "yaml", "rich", "psutil", *SLOW)
    assert loaded_by(command("--help"), asked) == set()
    assert loaded_by(command("train", "--help"), asked) == set()
    assert loaded_by(command("list"), asked) == {"pydantic", "yaml"}


def test_the_shipped_registry_is_what_the_zoos_holds(tmp_path: Path, monkeypatch) -> None:
    assert registry.SHIPPED.read_text() == shipped_registry.current(), "python tools/shipped_registry.py --write"
    assert registry.zoo_registry() == registry.read_registry(registry.zoo_file())
    of_another, shipped = tmp_path / "registry.json", tmp_path / "registry.yaml"
    shipped.write_text("models: {}")
    monkeypatch.setattr(registry, "zoo_file", lambda: shipped)
    for damaged in (registry.SHIPPED.read_text(), "", "[]", '{"of": 1}'):
        of_another.write_text(damaged)
        monkeypatch.setattr(registry, "SHIPPED", of_another)
        assert not registry.zoo_registry.__wrapped__().models


@pytest.mark.parametrize("model", ["dit-xl", "vqgan-nano"])
def test_info_of_the_zoo_needs_no_torch(model: str, tmp_path: Path) -> None:
    assert loaded_by(command("info", model), XDG_CACHE_HOME=str(tmp_path)) == set()


def test_shipped_facts_are_what_families_say() -> None:
    """Of every card options and exports; of some, one of each kind, what tracing the network finds."""
    cards = {card.name: card for card in shipped_facts.installed()}
    assert shipped_facts.stale(list(cards.values())) == []
    assert shipped_facts.schemas(list(cards.values())) == shipped_facts.kept()["schemas"]
    for name in ("dit-nano", "dit-s", "llamagen-nano", "mar-nano", "maskgit-nano", "rq-nano", "var-nano"):
        assert shipped(cards[name]) == family_facts(cards[name]), name


def test_facts_of_another_card_or_plugin_are_not_those_shipped(monkeypatch) -> None:
    card = get_card("dit-nano")
    assert shipped(card) is not None and shipped(card.change(network={**card.network, "depth": 3})) is None
    monkeypatch.setattr("gftzoo.cli.shipped.active", lambda group: iter([]))
    assert shipped(card) is None


def test_shipped_costs_are_what_tracing_finds() -> None:
    """That every card has its costs, and of some, one of each kind, what they are."""
    costs, cards = shipped_costs.kept(), {card.name: card for card in shipped_facts.installed()}
    assert shipped_costs.stale(list(cards.values())) == []
    for name in ("dit-nano", "mar-nano", "var-nano"):
        for stamp, job, place in shipped_costs.questions(cards[name]):
            assert costs[stamp] == asdict(training_cost(job, place)), name


def test_a_dry_run_without_options_traces_nothing(monkeypatch) -> None:
    """But one of another network does, and so does any where a wrapper is installed."""
    monkeypatch.setattr("gftzoo.cli.cost.known", lambda name, about, find: pytest.fail("traced"))
    place, job = Place(torch.device("cpu")), plan(Wanted("dit-s", "gft", None))
    other = plan(Wanted("dit-s", "gft", None, options={"network.depth": 3, "lr": 0.1}))
    assert traced(job.changed(lr=0.1), place) == traced(job, place)
    with pytest.raises(pytest.fail.Exception):
        traced(other, place)
    monkeypatch.setattr("gftzoo.cli.shipped.active", lambda group: iter([1]))
    with pytest.raises(pytest.fail.Exception):
        traced(job, place)


def test_info_needs_no_torch_for_what_is_known(tmp_path: Path, monkeypatch) -> None:
    shown = f"import gftzoo.cli.info as info; info.shipped = lambda _: None; {command('info', 'dit-nano', '--json')}"
    assert "torch" in loaded_by(shown, XDG_CACHE_HOME=str(tmp_path))
    assert loaded_by(shown, XDG_CACHE_HOME=str(tmp_path)) == set()


def test_what_is_known_is_asked_anew_when_the_question_or_the_code_changes(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    answers = iter(range(9))
    asked = lambda about: known("name", about, lambda: next(answers))  # noqa: E731
    assert [asked(1), asked(1), asked(2), asked(2)] == [0, 0, 1, 1]
    monkeypatch.setattr("gftzoo.cli.known.code_state", lambda: [*code_state(), "changed"])
    assert asked(2) == 2
    (file,) = (tmp_path / "gftzoo" / "known").iterdir()
    for damaged in ("", "[]", '{"asked": 1}', "{"):  # a file that no write of ours leaves
        file.write_text(damaged)
        before = asked(2)
        assert before > 2 and asked(2) == before


def test_what_cannot_be_found_out_is_not_kept(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def refused() -> None:
        raise UsageError("no")

    with pytest.raises(UsageError):
        known("name", 1, refused)
    assert known("name", 1, lambda: 2) == 2
