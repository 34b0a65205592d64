"""The systems of the shelves have the parameters and tensors of their official codes."""

from __future__ import annotations

import pytest
import torch
from gftzoo_diffusion.tokenizers import LatentVQ
from torch import nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.families.finding import load_family
from gftzoo.zoo import get_card, list_models

OFFICIAL = {  # model: parameters, tensors of the official state dict
    "sit-s": (32_963_360, None),
    "sit-b": (130_512_416, None),
    "sit-l": (458_102_816, None),
    "sit-xl": (675_129_632, 292),
    "uvit-l": (286_763_172, 261),
    "uvit-l-4-512": (286_861_524, 261),
    "uvit-h": (500_832_016, 355),
    "uvit-h-4-512": (500_942_656, 355),
    "uvit-s-coco": (44_692_644, 166),
    "uvit-s-deep-coco": (58_345_636, 214),
    "mdt-s": (38_454_872, 188 - 13),  # without the indices of relative positions
    "mdt-xl": (742_263_904, 394 - 29),
    "ldm-4": (400_920_579 + 512_512, 688 + 1),
}
ADM = {  # without the null condition: parameters, tensors of the official state dict, attentions, width
    "adm-64": (295_904_454, 541, 22, 192),
    "adm-128": (421_529_606, 493, 16, 256),
    "adm-256": (553_838_086, 567, 16, 256),
    "adm-512": (558_997_638, 645, 16, 256),
    "adm-64-to-256": (311_795_910, 567, 16, 192),
    "adm-128-to-512": (308_835_270, 537, 11, 192),
}
NAMES = ("sit-*", "uvit-*", "mdt-*", "adm-*", "ldm-*")
SYSTEMS = [card.name for name in NAMES for card in list_models(name, family="diffusion")]


def empty_network(card: ModelCard) -> nn.Module:
    with torch.device("meta"):
        return load_family("diffusion").build_network(card)


@pytest.mark.parametrize("name", SYSTEMS)
def test_parameters(name: str) -> None:
    card = get_card(name)
    plain, steered = (empty_network(card.change(temperature=steered)) for steered in (False, True))
    counts = [sum(p.numel() for p in network.parameters()) for network in (plain, steered)]
    assert counts == [card.parameters, card.parameters_gft]
    if name in OFFICIAL:
        parameters, tensors = OFFICIAL[name]
        assert counts[0] == parameters
        assert tensors in (None, len(plain.state_dict()))


def test_the_first_stage_of_ldm() -> None:
    with torch.device("meta"):
        tokenizer = LatentVQ(get_card("ldm-4").tokenizer)
    assert sum(p.numel() for p in tokenizer.parameters()) == 55_322_782
    assert len(tokenizer.state_dict()) == 205


@pytest.mark.parametrize("name", ADM)
def test_a_null_condition_is_all_that_adm_has_beyond_its_official_tensors(name: str) -> None:
    parameters, tensors, attentions, width = ADM[name]
    network = empty_network(get_card(name))
    assert sum(p.numel() for p in network.parameters()) == parameters + 4 * width
    # queries, keys and values are one layer in official files
    assert len(network.state_dict()) == tensors + 4 * attentions


@pytest.mark.parametrize("name", [*OFFICIAL, *ADM])
def test_every_size_has_its_recipes(name: str) -> None:
    recipes = get_card(name).recipes
    assert recipes["gft"].objective == recipes["gft-finetune"].objective == "gft"
    assert recipes["gft-finetune"].init == "base" and recipes["conditional"].objective == "conditional"
