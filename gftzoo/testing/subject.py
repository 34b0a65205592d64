"""The model that is checked: small, with random weights everywhere, and a batch for it. Suffix B: batch."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.guidance import Guidance
from gftzoo.contract.problem import Problem
from gftzoo.contract.tokenizer import Tokenizer
from gftzoo.errors import UsageError
from gftzoo.families.family import Family
from gftzoo.families.finding import load_family
from gftzoo.generator import SampleGenerator
from gftzoo.model import Model
from gftzoo.testing.broken import Broken
from gftzoo.zoo import catalogue, get_card, list_models

BATCH = 4
SHUFFLED = [2, 0, 3, 1]
NONE_DROPPED = torch.zeros(BATCH, dtype=torch.bool)
PROMPTS = (
    "a grinning face",
    "a cat",
    "the sun",
    "a fox in the snow",
    "a blue car",
    "a tree",
    "rain",
    "two cups of tea",
)
STEPS = 4  # of a sampler that has such a setting: identities do not need fine steps


@dataclass(frozen=True)
class Batch:
    """What one training step works on."""

    model: Model
    problem: Problem
    condition: Tensor
    beta_B: Tensor

    @property
    def family(self) -> Family:
        return self.model.family

    def select(self, rows: Sequence[int]) -> Batch:
        """The batch of some of its samples, in the order of `rows`."""
        index = torch.tensor(rows)
        return Batch(self.model, self.problem.select(index), self.condition[index], self.beta_B[index])

    def predict(self, condition: Tensor | None = None, beta: Tensor | None = None) -> Tensor:
        """The family's prediction, with another condition or another temperature if given."""
        shown, beta = self.condition if condition is None else condition, self.beta_B if beta is None else beta
        fed = beta if self.model.card.temperature else None
        return self.family.predict(self.model, self.problem, shown, fed)

    def loss(self, prediction: Tensor) -> Tensor:
        """The family's loss of a prediction."""
        return self.family.loss_term(self.model, prediction.float(), self.problem)


class Subject:
    """A model under test; networks are built once, and a check that trains one takes a copy.

    Args:
        card: of a small model of the family, one whose tokenizer needs no download.
    """

    def __init__(self, card: ModelCard) -> None:
        self.card = card

    @cached_property
    def family(self) -> Family:
        return load_family(self.card.family)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return self.family.build_tokenizer(self.card.tokenizer)

    @cached_property
    def latents(self) -> Tensor:
        """What random images encode to, BATCH of them."""
        spec, side = self.card.tokenizer, self.card.resolution
        stream = torch.Generator().manual_seed(1)
        images_BCHW = torch.rand(BATCH, spec.image_channels, side, side, generator=stream) * 2 - 1
        return self.tokenizer.encode(images_BCHW)

    @cached_property
    def conditions(self) -> list[int | str]:
        """One class index or prompt per sample, as different as the model has them."""
        if self.card.condition == "text":
            return list(PROMPTS[:BATCH])
        return [index % self.card.classes for index in range(BATCH)]

    def fresh(self, *, temperature: bool, seed: int = 0) -> Model:
        """The model as the family initialises it."""
        with isolated(seed):
            return Model.fresh(self.card.change(temperature=temperature), self.tokenizer)

    @cached_property
    def _models(self) -> dict[bool, Model]:
        return {}

    def model(self, *, temperature: bool) -> Model:
        """The model in evaluation mode, zero-initialised layers made random too, so that every input has an effect."""
        if temperature not in self._models:
            model = self.fresh(temperature=temperature)
            disturb(model)
            model.network.eval()
            self._models[temperature] = model
        return self._models[temperature]

    def copy(self, *, temperature: bool) -> Model:
        """A model of its own with the same weights, to be trained or put into another mode."""
        model = self.model(temperature=temperature)
        return replace(model, network=copy.deepcopy(model.network))

    def batch(
        self, model: Model | None = None, *, temperature: bool = True, rows: Sequence[int] | None = None
    ) -> Batch:
        """The batch of samples `rows` (all), every random number from the sample's own stream."""
        model = model or self.model(temperature=temperature)
        rows = range(BATCH) if rows is None else rows
        generator = SampleGenerator.for_samples("check", 0, rows)
        problem = self.family.draw_problem(model, self.latents[list(rows)], generator)
        condition = model.encode_condition([self.conditions[row] for row in rows])
        beta_B = torch.tensor([0.2, 0.5, 0.7, 0.9])[list(rows)]
        return Batch(model, problem, condition, beta_B)

    def settings(self) -> BaseModel:
        """The sampler's settings, with few steps where it has steps."""
        few = {"steps": STEPS} if "steps" in self.family.options().sampler.model_fields else {}
        return self.family.sampler_settings(self.card, **few)

    @torch.no_grad()
    def sample(
        self, model: Model, guidance: Guidance, rows: Sequence[int] | None = None, *, seed: int = 0, null: bool = False
    ) -> Tensor:
        """Latents of the samples `rows`; with `null`, without their conditions."""
        rows = range(BATCH) if rows is None else rows
        condition = model.encode_condition([self.conditions[row] for row in rows])
        condition = model.null_condition(condition) if null else condition
        generator = SampleGenerator.for_samples("check sampling", seed, rows)
        return self.family.temperature_sampler(model, condition, guidance, self.settings(), generator)


@cache
def subject_of(name: str) -> Subject:
    """The subject for a family's name or a model's: the family's nano model, or else its smallest; or that model."""
    models = catalogue().models
    if ":" in name:  # made by a plugin, of a folder
        return Subject(get_card(name))
    if name in models and name not in catalogue().families:
        return Subject(models[name])
    cards = list_models(family=name)
    if not cards:
        raise UsageError(f"there is no model or family {name!r} to check; `gftzoo list` shows what there is.")
    entry = catalogue().families.get(name)
    nano = (
        entry.nano
        if entry and entry.nano and entry.nano in models
        else min(cards, key=lambda card: card.parameters).name
    )
    return Subject(get_card(nano))


@torch.no_grad()
def disturb(model: Model, deviation: float = 0.02) -> None:
    """Adds a little noise to every parameter, also those that start at zero."""
    stream = torch.Generator().manual_seed(2)
    for parameter in model.network.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=stream), alpha=deviation)


@contextmanager
def isolated(seed: int = 0) -> Iterator[None]:
    """The global random state seeded for the duration, and put back."""
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)


@contextmanager
def no_global_randomness(what: str) -> Iterator[None]:
    """Broken if the global random state of torch, numpy or Python moves meanwhile."""
    before = _states()
    yield
    moved = [name for name, state in _states().items() if state != before[name]]
    if moved:
        raise Broken(f"{what} moved the global random state of {' and '.join(moved)}.")


def _states() -> dict[str, Any]:
    numpy = np.random.get_state(legacy=False)["state"]
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": (numpy["key"].tobytes(), numpy["pos"]),
        "python": random.getstate(),
    }


def tensor_fields(problem: Problem) -> dict[str, Tensor]:
    """The tensors of a problem, by field."""
    found = {field.name: getattr(problem, field.name) for field in fields(problem)}
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}
