"""ADM's upsamplers: a smaller image is given beside the noisy one; in sampling a model draws it.

Suffixes: B batch, C channels, H W sides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gftzoo.contract.guidance import Guidance
from gftzoo.contract.model import Model
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator, seed_for
from gftzoo.loading import load
from gftzoo_diffusion.training import DiffusionProblem


@dataclass(frozen=True)
class UpsamplingProblem(DiffusionProblem):
    """The problem of an upsampler, which is `given` the smaller image in the size of the larger, (B, C, H, W)."""

    given: Tensor


def enlarged(small_BChw: Tensor, side: int) -> Tensor:
    """Images (B, C, side, side), by linear interpolation."""
    return F.interpolate(small_BChw, side, mode="bilinear", align_corners=False)


def given_smaller(problem: DiffusionProblem, side: int) -> UpsamplingProblem:
    """The problem with the images averaged over squares, as images of that side, and enlarged again."""
    given = enlarged(F.interpolate(problem.x_0, side, mode="area"), problem.x_0.shape[-1])
    return UpsamplingProblem(problem.x_t, problem.t, problem.target, problem.x_0, given)


def beside(problem: Any) -> Any:
    """The problem with what is given behind the channels of `x_t`, where something is."""
    if not isinstance(problem, UpsamplingProblem):
        return problem
    return replace(problem, x_t=torch.cat([problem.x_t, problem.given], 1))


def drawn(
    model: Model, condition: Tensor, guidance: Guidance, base: str | None, side: int, generator: SampleGenerator
) -> Tensor:
    """The smaller images of these classes, drawn by the model in the folder `base` and enlarged, (B, C, H, W).

    They have streams of their own, made of those of the images, the same guidance, and 8 bits, as stored ones have.
    Raises UsageError where no folder is named, or where its model draws other images or is guided otherwise.
    """
    card = model.card
    if base is None:
        raise UsageError(
            f"{card.name} enlarges images of {side}x{side} pixels; name the model that draws them, a run or a folder "
            "of gftzoo's, with -s base=FOLDER."
        )
    small = load(base)
    found = (small.card.resolution, small.card.classes, small.card.tokenizer.image_channels, small.card.temperature)
    if found != (side, card.classes, card.tokenizer.image_channels, card.temperature):
        raise UsageError(
            f"base={base!r} is {small.card.name}, of {found[0]} pixels, {found[1]} classes and "
            f"{'a' if found[3] else 'no'} temperature input; {card.name} needs {side} pixels, {card.classes} classes "
            f"and {'one' if card.temperature else 'none'}."
        )
    small.to(model.device)
    seeds = [seed_for("base", stream.initial_seed()) for stream in generator.streams]
    latents = small.sample_latents(condition.tolist(), guidance, seeds)
    images = small.require_tokenizer().decode(latents).clamp(-1, 1)
    return enlarged(((images + 1) * 127.5).floor() / 127.5 - 1, card.grid)
