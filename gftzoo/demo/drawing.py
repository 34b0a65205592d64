"""What a visitor may ask of a model, and the sheet that comes of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, get_args

import torch
from PIL.Image import Image

from gftzoo import pictures
from gftzoo.captions import asked, steered
from gftzoo.contract.guidance import Guidance
from gftzoo.errors import UsageError
from gftzoo.model import Model
from gftzoo.printing import plain
from gftzoo.sampling import image_seeds, sample_batches

LARGEST_SEED = 2**32 - 1
LONGEST_PROMPT = 500  # characters
CFG_TIMED = 1.5  # the scale does not change how long it takes
BATCH = 64
COLUMNS = 4  # of a sheet


@dataclass(frozen=True)
class Limits:
    """The most that one visitor may ask for at once; the page's own bounds can be gone round by HTTP."""

    images: int = 32
    steps: int = 250

    def check(self, wish: Wish) -> None:
        """UsageError for a wish that is past them, or malformed."""
        if not 1 <= len(wish.conditions) <= self.images:
            raise UsageError(f"{len(wish.conditions)} images are asked for; valid are 1 to {self.images}.")
        if wish.steps is not None and not 1 <= wish.steps <= self.steps:
            raise UsageError(f"{wish.steps} steps are asked for; valid are 1 to {self.steps}.")
        if not 0 <= wish.seed <= LARGEST_SEED:
            raise UsageError(f"seed {wish.seed} is not valid; valid are 0 to {LARGEST_SEED}.")


@dataclass(frozen=True)
class Wish:
    """What is asked of one model.

    Args:
        conditions: one an image, class indices or prompts.
        strength: beta in (0, 1] of a model with a temperature input, else the CFG scale.
        seed: image i is a function of (seed, i).
        steps: of the sampler; None where it has none, or for the card's.
        sampler: None for the card's.
    """

    conditions: tuple[int | str, ...]
    strength: float
    seed: int = 0
    steps: int | None = None
    sampler: str | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Of the family's sampler."""
        return {k: v for k, v in {"steps": self.steps, "sampler": self.sampler}.items() if v is not None}


@dataclass(frozen=True)
class Drawn:
    """A sheet of images, and what it took.

    Args:
        sheet: the images side by side.
        seconds: for all of them, decoding included.
        passes: of the network per image and step.
        images: how many there are.
    """

    sheet: Image
    seconds: float
    passes: int
    images: int


@dataclass(frozen=True)
class Shown:
    """A model of the demo, and what can be chosen of it."""

    name: str
    model: Model
    _drawers: dict[str, Model] = field(default_factory=dict, compare=False)

    @property
    def steered(self) -> bool:
        """Whether it is steered by beta."""
        return self.model.card.temperature

    @property
    def fixed(self) -> bool:
        """Whether it has a temperature in its weights, and nothing to steer."""
        return self.model.baked_beta is not None

    @property
    def text(self) -> bool:
        """Whether it is conditioned on prompts."""
        return self.model.card.condition == "text"

    @property
    def classes(self) -> list[str]:
        """The classes by name or number; none of a model of prompts."""
        card = self.model.card
        return [] if self.text else [plain(name, 60) for name in card.class_names] or [*map(str, range(card.classes))]

    @cached_property
    def steps(self) -> int | None:
        """The usual number of steps; None for a sampler that has none to choose."""
        settings = self.model.family.sampler_settings(self.model.card)
        return getattr(settings, "steps", None)

    @cached_property
    def samplers(self) -> list[str]:
        """The samplers there are to choose from."""
        option = self.model.family.options().sampler.model_fields.get("sampler")
        return [] if option is None else [str(choice) for choice in get_args(option.annotation) if choice is not None]

    def alike(self, other: Shown) -> bool:
        """Whether the same conditions mean the same to both."""
        return self.text == other.text and self.classes == other.classes

    def guidance(self, strength: float) -> Guidance:
        """What a strength means to this model; UsageError for one that is out of range."""
        if self.fixed:
            return self.model.guidance()
        return self.model.guidance(beta=strength) if self.steered else self.model.guidance(cfg=strength)

    def under_cfg(self) -> Model:
        """The plain network of the same size, which is as fast with fresh weights as with trained ones."""
        if "plain" not in self._drawers:
            model = self.model
            plain_model = Model.fresh(model.card.change(temperature=False), model.tokenizer, model.family)
            self._drawers["plain"] = plain_model.to(model.device)
        return self._drawers["plain"]


def wanted(shown: Shown, classes: Sequence[str], prompts: str, count: int) -> tuple[int | str, ...]:
    """The condition of each image: classes by name or the lines of a text, in turn; all classes where none is named.

    Raises UsageError for a class that there is not, or a text without a line, or with one that is too long.
    """
    count = max(0, int(count))
    if shown.text:
        given: list[int | str] = [line.strip() for line in str(prompts).splitlines() if line.strip()]
        if not given:
            raise UsageError("write a prompt; several lines are several prompts.")
        if any(len(str(line)) > LONGEST_PROMPT for line in given):
            raise UsageError(f"a prompt has at most {LONGEST_PROMPT} characters.")
    else:
        names = shown.classes
        unknown = [name for name in classes if name not in names]
        if unknown:
            raise UsageError(f"there is no class {plain(unknown[0], 60)!r}.")
        given = [names.index(name) for name in classes] or list(shown.model.card.drawn_classes)
    return tuple(given[i % len(given)] for i in range(min(count, 10_000)))


def draw(shown: Shown, wish: Wish, limits: Limits) -> Drawn:
    """The sheet that is asked for; UsageError for a wish that is not granted."""
    limits.check(wish)
    if wish.sampler is not None and wish.sampler not in shown.samplers:
        raise UsageError(f"{shown.name} has no sampler {plain(wish.sampler, 60)!r}.")
    return _timed(shown.model, shown.guidance(wish.strength), wish)


def compare_with_cfg(shown: Shown, wish: Wish, limits: Limits) -> tuple[Drawn, Drawn]:
    """The sheet that is asked for, and one under classifier-free guidance, whose images are those of fresh weights.

    The two are drawn in turn, twice each, and the faster of each counts: what comes first is slow for other reasons.
    """
    limits.check(wish)
    plain_model = shown.under_cfg()
    guidance, guided = shown.guidance(wish.strength), plain_model.guidance(cfg=CFG_TIMED)
    pairs = [(_timed(shown.model, guidance, wish), _timed(plain_model, guided, wish)) for _ in range(2)]
    own, cfg = (min(each, key=lambda drawn: drawn.seconds) for each in zip(*pairs, strict=True))
    return own, cfg


def _timed(model: Model, guidance: Guidance, wish: Wish) -> Drawn:
    seeds = image_seeds(wish.seed, range(len(wish.conditions)))
    start = time.perf_counter()
    batches = sample_batches(model, wish.conditions, guidance, seeds, BATCH, **wish.settings)
    images_BCHW = torch.cat([images.cpu() for images in batches])
    seconds = time.perf_counter() - start
    below = [asked(model.card, condition) for condition in wish.conditions]
    return Drawn(pictures.grid(images_BCHW, COLUMNS, below), seconds, guidance.passes, len(seeds))


def label(shown: Shown, strength: float) -> str:
    """`beta 0.5`, `CFG 1.5`, or what is folded into the weights."""
    return f"beta {shown.model.baked_beta:g} folded in" if shown.fixed else steered(shown.guidance(strength))


def by_name(models: Mapping[str, Model]) -> dict[str, Shown]:
    """The models of a demo."""
    return {name: Shown(name, model) for name, model in models.items()}
