"""A generator that needs no training: one grey level per class and noise that guidance makes smaller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pluggy
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard, TokenizerSpec
from gftzoo.contract.hookspecs import GenerativeFamily, hookimpl
from gftzoo.contract.options import FamilyOptions
from gftzoo.families.defaults import Defaults
from gftzoo.families.family import Family
from gftzoo.model import Model
from gftzoo.tokenizers import Pixels

SIDE = 8


class ToySettings(BaseModel, extra="forbid"):
    """Settings of the toy sampler."""

    noise: float = 0.3


class Toy:
    """The hooks that sampling uses."""

    def __init__(self) -> None:
        self.drawn: list[int] = []

    @hookimpl
    def options(self) -> FamilyOptions:
        return FamilyOptions(sampler=ToySettings)

    @hookimpl
    def temperature_sampler(
        self, model: Any, condition: Tensor, guidance: Any, settings: Any, generator: Any
    ) -> Tensor:
        self.drawn.append(len(condition))
        beta = guidance.beta(len(condition))
        width = settings.noise * (1.0 if beta is None else float(beta[0]))
        grey_B = (condition.float() / (model.card.classes - 1) - 0.5) * 1.4 * model.network.weight[0, 0].detach()
        return grey_B[:, None, None, None] + width * generator.normal(1, SIDE, SIDE)


def toy_model(*, temperature: bool = True, weight: float = 1.0) -> tuple[Model, Toy]:
    """A class-conditional model of ten grey levels, and its family object, which counts what it draws."""
    spec = TokenizerSpec(id="pixels-grey", kind="pixels", channels=1, image_channels=1)
    card = ModelCard(
        name="toy", family="diffusion", parameters=1, resolution=SIDE, tokenizer=spec, classes=10, data="digits",
        temperature=temperature,
    )  # fmt: skip
    toy = Toy()
    manager = pluggy.PluginManager("gftzoo")
    manager.add_hookspecs(GenerativeFamily)
    manager.register(Defaults())
    manager.register(toy)
    network = nn.Linear(1, 1)
    with torch.no_grad():
        network.weight.fill_(weight)
        network.bias.zero_()
    return Model(card, network, Pixels(spec), Family("diffusion", manager), {"entry": "ema"}), toy


def grey_images(levels: Sequence[int], side: int = SIDE) -> Tensor:
    """uint8 images (N, 3, side, side), each of one level with a little structure."""
    ramp = torch.arange(side * side).view(side, side) % 7
    return torch.stack([(ramp + level).clamp(0, 255).to(torch.uint8).expand(3, -1, -1) for level in levels])
