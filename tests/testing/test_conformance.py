"""Every registered nano model keeps the contract; the kit catches families that do not."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from nano import NANO

from gftzoo.catalogue.cards import ModelCard
from gftzoo.catalogue.registry import read_registry, zoo_registry
from gftzoo.cli import main
from gftzoo.cli.new_plugin import TEMPLATE
from gftzoo.contract.hookspecs import GenerativeFamily
from gftzoo.families.finding import REQUIRED_HOOKS, load_family
from gftzoo.plugins.discovery import FAMILIES, GROUPS, installed_plugins
from gftzoo.testing import CHECKS, Subject, conformance, examine, subject_of
from gftzoo.testing.contract import SENTENCE, spoken
from gftzoo.zoo import catalogue, get_card

test_every_nano_model = conformance(*NANO, checks=[check for check in CHECKS if not check.slow])
test_compiled_and_on_two_ranks = conformance("var-nano", checks=[check for check in CHECKS if check.slow])

# Class of wrong_families.py, the check that must catch it, and words of the sentence that it breaks.
WRONG = [
    ("LeaksGradient", "unconditional-pass-trains-nothing", "Under `torch.no_grad` it keeps no graph"),
    ("NullIsAClass", "null-condition-matters", "So does the null condition in place of any other."),
    ("IgnoresBeta", "temperature-matters", "Another `beta` gives another prediction."),
    ("BendsTheLine", "affine-temperature-is-affine", "A network with an affine temperature gives `Affine(c, d)`"),
    ("FoldsNothing", "folded-temperature-draws-the-same", "that predicts without beta what this one predicts"),
    ("NormalisesAcrossTheBatch", "predictions-per-sample", "in training mode too"),
    ("PredictsInfinity", "predictions-finite", "it is finite"),
    ("GlobalRandomness", "problems-follow-their-streams", "The global random state is neither read nor changed."),
    ("OneStreamForAll", "problems-per-sample", "stream i of `generator` alone"),
    ("SharedLoss", "losses-per-sample", "Row i depends on row i of `prediction` and `problem` alone"),
    ("HalfPrecisionLoss", "loss-shape", "The per-sample loss (B,), float32"),
    ("DropsInPlace", "other-conditions-stay", "the argument itself is not changed"),
    ("DropsWrongRows", "dropped-conditions-are-null", "where the boolean `dropped` (B,) is true"),
    ("NullFollowsTheCondition", "null-condition-is-constant", "The null condition is the same whatever it replaces."),
    ("SamplerSharesNoise", "samples-independent-of-batch", "not on its batch"),
    ("SamplerIgnoresBeta", "temperature-steers", "The network is given `guidance.beta`."),
    ("SwapsThePasses", "cfg-at-one-is-unguided", "CFG at scale 1 is no guidance"),
    ("ForgetsState", "save-and-load", "All that its predictions depend on is in its state dict."),
    ("FreezesSilently", "parameters-are-grouped", "Every trainable parameter is in one of them, once."),
]


def forget() -> None:
    for cached in (installed_plugins, load_family, catalogue, subject_of):
        cached.cache_clear()


@pytest.fixture
def wrong_families(tmp_path: Path, monkeypatch) -> Iterator[ModelCard]:
    """The wrong families installed under their class names; the card of the right one that they derive from."""
    info = tmp_path / "wrong-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wrong\nVersion: 1.0\n")
    entries = "".join(f"{name} = wrong_families:{name}\n" for name, *_ in WRONG)
    (info / "entry_points.txt").write_text(f"[{FAMILIES}]\n{entries}")
    for folder in (tmp_path, TEMPLATE):
        monkeypatch.syspath_prepend(str(folder))
    forget()
    registry = read_registry(TEMPLATE / "gftzoo_acme" / "registry.yaml", zoo_registry())
    yield registry.models["acme-nano"]
    forget()
    for module in [name for name in sys.modules if name.startswith(("gftzoo_acme", "wrong_families"))]:
        del sys.modules[module]


@pytest.mark.parametrize(("family", "check", "words"), WRONG, ids=[case[0] for case in WRONG])
def test_a_wrong_family_is_caught_with_the_sentence(
    wrong_families: ModelCard, family: str, check: str, words: str
) -> None:
    (chosen,) = (c for c in CHECKS if c.name == check)
    finding = examine(Subject(wrong_families.change(family=family)), chosen)
    assert not finding.holds and words in finding.sentence
    assert any(character.isdigit() for character in finding.numbers), finding.numbers
    assert finding.sentence in finding.explanation() and finding.numbers in finding.explanation()


def test_a_card_need_not_say_how_many_parameters_a_temperature_adds() -> None:
    (chosen,) = (c for c in CHECKS if c.name == "parameter-counts")
    finding = examine(Subject(get_card("dit-nano").change(parameters_gft=None)), chosen)
    assert finding.holds, finding.numbers


def test_the_command_names_hook_sentence_and_numbers(wrong_families: ModelCard, monkeypatch, capsys) -> None:
    card = wrong_families.change(family="IgnoresBeta", name="ignores-nano")
    few = [check for check in CHECKS if check.name in ("temperature-matters", "loss-shape")]
    monkeypatch.setattr("gftzoo.cli.check_plugin.CHECKS", few)
    monkeypatch.setattr("gftzoo.cli.check_plugin.subject_of", lambda _: Subject(card))
    for words in (["--json"], []):
        with pytest.raises(SystemExit) as stop:
            main(["check-plugin", "IgnoresBeta", *words])
        assert stop.value.code == 3
        printed = capsys.readouterr()
        assert "IgnoresBeta breaks 1 of 2 sentences of the contract; mend predict." in printed.err
        if words:
            states = {row["check"]: row["holds"] for row in json.loads(printed.out)}
            assert states == {"temperature-matters": False, "loss-shape": True}
        else:
            assert "contract, predict: Another `beta` gives another prediction." in printed.out
            assert "relative difference 0" in printed.out


def test_an_unknown_name_or_a_broken_plugin_is_one_sentence(wrong_families: ModelCard, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["check-plugin", "diffusoin"])
    assert stop.value.code == 2 and "did you mean 'diffusion'" in capsys.readouterr().err


def test_every_hook_and_group_is_documented_and_every_required_hook_is_checked() -> None:
    hooks = [name for name in vars(GenerativeFamily) if not name.startswith("_")]
    for hook in hooks:
        assert SENTENCE.findall(spoken(hook)), f"hook {hook} has no documentation"
    for group in GROUPS:
        assert SENTENCE.findall(GROUPS[group]), f"group {group} has no documentation"
    # `options`, `encode_condition` and `build_tokenizer` are part of every check; the others concern foreign files.
    assert {check.hook for check in CHECKS} >= set(REQUIRED_HOOKS)
