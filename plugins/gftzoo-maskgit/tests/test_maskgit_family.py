"""Networks of every kind keep the contract; cards have the official counts; options are refused in words."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.guidance import Temperature, Unguided
from gftzoo.engine import resolve
from gftzoo.errors import UsageError
from gftzoo.families.finding import load_family
from gftzoo.layers.lora import LoraOptions, target_layers
from gftzoo.testing import CHECKS, Subject, examine
from gftzoo.testing.contract import Check
from gftzoo.zoo import get_card, list_models

CARDS = {card.name: card for card in list_models(family="maskgit")}
# Of the official networks: without a null class in MaskGIT and MAGE, and with what MAGE's files carry unused.
OFFICIAL = {
    "maskgit": 172_457_193, "maskgit-512": 173_047_017, "mage-b": 146_474_217, "mage-l": 409_891_561,
    "maskbit-10": 304_728_128, "maskbit-12": 304_795_776, "maskbit-14": 304_929_024, "maskbit-16": 305_193_472,
    "maskbit-18": 305_720_320,
}  # fmt: skip
UNUSED = {"mage-b": 1_577_472, "mage-l": 2_103_040}
KINDS = {
    "mage": {"kind": "mage", "mask": "mage", "decoder_width": 32, "decoder_depth": 1, "decoder_heads": 2},
    "maskbit": {"kind": "maskbit", "mask": "each", "splits": 2, "loss": "all", "mask_schedule": "arccos"},
    "table": {"kind": "maskbit", "tokens": "table", "prenorm": True},
    "tied": {"kind": "maskgit", "tied": True},
}


SHARP = {"temperature": 0.2}  # so that a network without training draws what its condition changes


def small_card(kind: str, **network: Any) -> ModelCard:
    """A card of that kind with few numbers, on 16 grey levels: 4 bits a code."""
    card = CARDS["maskgit-nano"]
    size = {"width": 32, "depth": 2, "heads": 2, "dropout": 0, "beta_scale": 10, "init": 0.15}
    card = card.change(network={**size, **KINDS[kind], **network}, sampler=SHARP)
    return card.change(parameters=count(card), parameters_gft=count(card.change(temperature=True)))


def empty_network(card: ModelCard) -> nn.Module:
    with torch.device("meta"):
        return load_family("maskgit").build_network(card)


@pytest.mark.parametrize("name", CARDS)
def test_every_card_runs_on_the_embedded_digits(name: str) -> None:
    assert count(resolve(name).card) > 0


def count(card: ModelCard) -> int:
    return sum(parameter.numel() for parameter in empty_network(card).parameters())


SUBJECTS = {kind: Subject(small_card(kind)) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("check", [c for c in CHECKS if not c.slow and c.name != "costs"], ids=lambda check: check.name)
def test_every_kind_keeps_the_contract(kind: str, check: Check) -> None:
    finding = examine(SUBJECTS[kind], check)
    assert finding.holds, finding.explanation()


@pytest.mark.parametrize("name", CARDS)
def test_parameters(name: str) -> None:
    card = CARDS[name]
    assert count(card) == card.parameters and count(card.change(temperature=True)) == card.parameters_gft
    if name in OFFICIAL:
        null = 0 if name.startswith("maskbit") else card.network["width"]
        assert card.parameters == OFFICIAL[name] - UNUSED.get(name, 0) + null


@pytest.mark.parametrize("kind", ["mage", "maskbit", "table", "tied"])
def test_an_affine_temperature_folds_where_logits_have_a_matrix_of_their_own(kind: str) -> None:
    subject = Subject(small_card(kind, temperature_input="both"))
    model = subject.model(temperature=True)
    if kind != "maskbit":
        with pytest.raises(UsageError, match=r"network\.tied=false"):
            model.bake(0.5, "constant")
    if kind == "table":
        return
    subject = Subject(small_card(kind, temperature_input="both", tied=False))
    model = subject.model(temperature=True)
    drawn = subject.sample(model.bake(0.5, "constant"), Unguided())
    assert torch.equal(drawn, subject.sample(model, Temperature(0.5)))


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_reach_attention(kind: str) -> None:
    names = target_layers(empty_network(small_card(kind)), LoraOptions().targets)
    depth = 3 if kind == "mage" else 2
    assert len(names) == 2 * depth and all(name.endswith(("attn.qkv", "attn.proj")) for name in names)


@pytest.mark.parametrize("kind", KINDS)
def test_the_likelihood_is_of_masked_parts_alone(kind: str) -> None:
    subject = SUBJECTS[kind]
    batch = subject.batch(temperature=False)
    logits = batch.predict()
    whole = batch.family.log_likelihood(batch.model, logits, batch.problem)
    seen = ~batch.problem.asked
    moved = torch.where(seen[..., None], torch.randn_like(logits), logits)
    assert torch.equal(batch.family.log_likelihood(batch.model, moved, batch.problem), whole)
    chosen = logits.log_softmax(-1).gather(-1, batch.problem.codes[..., None]).squeeze(-1)
    torch.testing.assert_close(whole, chosen.masked_fill(seen, 0).sum(1))


def test_visible_codes_are_read_and_masked_ones_are_not() -> None:
    for subject in SUBJECTS.values():
        batch = subject.batch(temperature=False)
        problem, network = batch.problem, batch.model.network
        other = (problem.codes + 1) % (1 << 2 if network.splits == 2 else 16)
        for mask, same in ((problem.asked, True), (~problem.asked, False)):
            codes = torch.where(mask, other, problem.codes)
            with torch.no_grad():
                found = network(codes, problem.asked, batch.condition, None, problem.left_out)
            assert torch.equal(found, batch.predict()) == same


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ({"heads": 5}, "width 64 is no multiple of 5 heads"),
        ({"kind": "mage", "decoder_heads": 7}, r"decoder_width 512 is no multiple of 7 heads.*network\.decoder_heads"),
        ({"kind": "maskbit", "splits": 3}, r"into 3 equal part\(s\), .* 16 codes; use one with 2"),
        ({"mask": "half"}, "mask = 'half' is not valid"),
    ],
)
def test_options_that_do_not_fit(network: dict[str, Any], words: str) -> None:
    card = get_card("maskgit-nano")
    with pytest.raises(UsageError, match=words):
        empty_network(card.change(network={**card.network, **network}))
    with pytest.raises(UsageError, match="no codebook; use one that has"):
        empty_network(card.change(tokenizer=card.tokenizer.model_copy(update={"codebook": None})))
