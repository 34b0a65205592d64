"""The models of the catalogue have exactly the parameters they say, and optimizer groups as the paper's recipe."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.families.finding import load_family
from gftzoo.zoo import list_models

CARDS = {card.name: card for card in list_models("mar-*", family="mar")}
TENSORS = {"mar-b": 364, "mar-l": 476, "mar-h": 604}
HEAD = {"mar-b": 35_749_920, "mar-l": 72_230_432, "mar-h": 151_206_944}


def empty_network(card: ModelCard, **network: object) -> nn.Module:
    with torch.device("meta"):
        return load_family("mar").build_network(card.change(network={**card.network, **network}))


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", CARDS)
def test_parameters(name: str) -> None:
    card = CARDS[name]
    assert count(empty_network(card)) == card.parameters
    assert count(empty_network(card.change(temperature=True))) == card.parameters_gft


@pytest.mark.parametrize("name", TENSORS)
def test_official_sizes(name: str) -> None:
    network = empty_network(CARDS[name])
    assert len(network.state_dict()) == TENSORS[name]
    assert count(network.diffloss) == HEAD[name]


@pytest.mark.parametrize("beta_input", ["buffer", "head", "both"])
def test_the_temperature_adds_only_its_embeddings(beta_input: str) -> None:
    card = CARDS["mar-nano"]
    plain = set(empty_network(card).state_dict())
    added = set(empty_network(card.change(temperature=True), beta_input=beta_input).state_dict()) - plain
    where = {"buffer": ["beta_embed"], "head": ["diffloss.net.beta_embed"]}
    prefixes = where["buffer"] + where["head"] if beta_input == "both" else where[beta_input]
    assert added == {f"{p}.mlp.{i}.{kind}" for p in prefixes for i in (0, 2) for kind in ("weight", "bias")}


def test_weight_decay_spares_vectors_and_the_head() -> None:
    card = CARDS["mar-nano"]
    network = empty_network(card)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = load_family("mar").parameter_groups(network, 0.02)
    decayed, plain = ({names[id(p)] for p in group["params"]} for group in groups)
    assert [group["weight_decay"] for group in groups] == [0.02, 0.0]
    assert plain | decayed == set(names.values()) and not plain & decayed
    assert {"class_emb.weight", "mask_token", "encoder_blocks.0.attn.qkv.weight", "fake_latent"} <= decayed
    assert not any(name.startswith("diffloss") or name.endswith("bias") or "norm" in name for name in decayed)


def test_the_recipes_are_the_papers() -> None:
    for name in TENSORS:
        for recipe in CARDS[name].recipes.values():
            assert (recipe.batch_size, recipe.betas, recipe.weight_decay) == (2048, (0.9, 0.95), 0.02)
            assert (recipe.clip_norm, recipe.ema_decay) == (3.0, 0.9999)
        assert CARDS[name].recipes["conditional"].steps == 800 * (1_281_167 // 2048)
        assert CARDS[name].recipes["conditional"].learning_rate.warmup == 100 * (1_281_167 // 2048)
        assert CARDS[name].recipes["gft-finetune"].init == "base"
