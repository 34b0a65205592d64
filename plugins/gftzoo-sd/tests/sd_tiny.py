"""sd-nano with an even smaller UNet, its VAE and its text encoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gftzoo.catalogue.cards import ModelCard
from gftzoo.families.finding import load_family
from gftzoo.model import Model
from gftzoo.zoo import get_card

TINY: dict[str, Any] = {
    "channels": [16, 32], "attention": [True, False], "layers": 1, "heads": 2, "norm_groups": 8, "text_width": 96,
    "temperature_width": 512,
}  # fmt: skip
PROMPTS = ["red apple", "tiger face", "evergreen tree"]


def tiny_card(*, temperature: bool, **network: Any) -> ModelCard:
    """The card of a network of some 100,000 parameters."""
    return get_card("sd-nano").change(temperature=temperature, network={**TINY, **network})


def tiny_model(*, temperature: bool, **network: Any) -> Model:
    """A model whose every weight is random, with the nano's VAE and text encoder."""
    card = tiny_card(temperature=temperature, **network)
    torch.manual_seed(0)
    model = Model.fresh(card, load_family("sd").build_tokenizer(card.tokenizer))
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def near(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> bool:
    """Whether two tensors agree, relative to the largest value."""
    return bool((actual - expected).abs().max() <= tolerance * expected.abs().max())
