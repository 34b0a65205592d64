"""The nano models of every installed family, with random weights."""

from __future__ import annotations

import functools
from typing import Any

import torch

from gftzoo.catalogue.cards import ModelCard
from gftzoo.families.finding import load_family
from gftzoo.model import Model
from gftzoo.zoo import list_models

NANO = [card.name for card in list_models("*-nano")]


@functools.cache
def nano_card(name: str) -> ModelCard:
    (card,) = list_models(name)
    return card


def nano_model(name: str, *, temperature: bool, seed: int = 0, **network: Any) -> Model:
    """A nano model whose zero-initialised layers are random too, so that every input has an effect."""
    card = nano_card(name)
    card = card.change(temperature=temperature, network={**card.network, **network})
    torch.manual_seed(seed)
    model = Model.fresh(card, load_family(card.family).build_tokenizer(card.tokenizer))
    with torch.no_grad():
        for _, parameter in sorted(model.network.named_parameters()):  # in an order that no module decides
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
    return model


def nano_conditions(model: Model, count: int) -> list[int | str]:
    if model.card.condition == "text":
        return [f"{word} face" for word in ("grinning", "cat", "winking", "dog", "sun", "moon", "fox", "cow")][:count]
    return [i % model.card.classes for i in range(count)]


def nano_latents(model: Model, count: int) -> torch.Tensor:
    spec, side = model.card.tokenizer, model.card.resolution
    images = torch.rand(count, spec.image_channels, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return model.require_tokenizer().encode(images)
