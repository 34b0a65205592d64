"""The models of the catalogue have exactly the parameters they say, and the official tensors."""

from __future__ import annotations

from fnmatch import fnmatch

import pytest
import torch
from torch import nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.errors import UsageError
from gftzoo.families.finding import load_family
from gftzoo.zoo import list_models

CARDS = {card.name: card for card in list_models("dit-*", family="diffusion")}
FACTS = {  # of the official code: depth, width, heads, parameters at patch 2, 4 and 8 and 256 pixels
    "s": (12, 384, 6, (32_963_360, 32_945_024, 33_148_160)),
    "b": (12, 768, 12, (130_512_416, 130_475_648, 130_881_536)),
    "l": (24, 1024, 16, (458_102_816, 458_053_760, 458_594_816)),
    "xl": (28, 1152, 16, (675_129_632, 675_074_432, 675_683_072)),
}
LINEAR_INPUT = 256 * 512  # the official temperature input
NANO_INPUT = 256 * 96 + 96 + 96 * 96 + 96  # the two layers of the small model's


def empty_network(card: ModelCard, **network: object) -> nn.Module:
    with torch.device("meta"):
        return load_family("diffusion").build_network(card.change(network={**card.network, **network}))


def count(module: nn.Module, *, trainable: bool = False) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable)


@pytest.mark.parametrize("name", CARDS)
def test_parameters(name: str) -> None:
    card = CARDS[name]
    assert count(empty_network(card)) == card.parameters
    added = NANO_INPUT if name == "dit-nano" else LINEAR_INPUT
    assert count(empty_network(card.change(temperature=True))) == card.parameters_gft == card.parameters + added


@pytest.mark.parametrize("size", FACTS)
def test_official_sizes(size: str) -> None:
    depth, width, heads, parameters = FACTS[size]
    for patch, expected in zip((2, 4, 8), parameters, strict=True):
        name = f"dit-{size}" if patch == 2 else f"dit-{size}-{patch}"
        small, large = CARDS[name], CARDS[f"{name}-512"]
        network = {"depth": depth, "width": width, "heads": heads, "patch": patch}
        assert small.network == large.network == network
        assert (small.parameters, small.grid, large.grid) == (expected, 32, 64)
        tokens = (64 // patch) ** 2 - (32 // patch) ** 2  # more positions are all that differs
        assert large.parameters == expected + tokens * width


def test_official_tensors() -> None:
    plain = empty_network(CARDS["dit-xl"]).state_dict()
    steered = empty_network(CARDS["dit-xl"].change(temperature=True)).state_dict()
    assert (len(plain), len(steered)) == (292, 293)
    assert steered.keys() - plain.keys() == {"t_embedder.cond_proj.weight"}
    assert tuple(plain["pos_embed"].shape) == (1, 256, 1152)
    assert tuple(plain["final_layer.linear.weight"].shape) == (32, 1152)
    assert count(empty_network(CARDS["dit-xl"]), trainable=True) == 674_834_720


def test_every_size_patch_and_resolution_is_there() -> None:
    official = [name for name in CARDS if not fnmatch(name, "*-nano")]
    assert len(official) == 4 * 3 * 2
    for name in official:
        recipes = CARDS[name].recipes
        assert recipes["gft"].steps == 400_000
        assert recipes["gft-finetune"].steps == 140_000
        assert recipes["gft-finetune"].init == "base"
        assert recipes["conditional"].objective == "conditional"


def test_unusable_options_are_named() -> None:
    nano = CARDS["dit-nano"]
    with pytest.raises(UsageError, match=r"'widht'.*width"):
        empty_network(nano, widht=8)
    with pytest.raises(UsageError, match="heads = 5"):
        empty_network(nano, heads=5)
    with pytest.raises(UsageError, match="8x8 does not divide into patches of 3"):
        empty_network(nano, patch=3)
