"""Masked decoding: draw all codes, keep the most confident, draw the others again.

Suffixes: B images, M parts of an image's codes, V values of a part. "MaskGIT" (arXiv 2202.04200),
maskgit/libml/parallel_decode.py; MAGE and MaskBit decode alike.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from pydantic import Field
from torch import Tensor

from gftzoo.catalogue.cards import Frozen
from gftzoo.contract.guidance import Guidance
from gftzoo.contract.model import Model
from gftzoo.contract.pieces import Steered
from gftzoo.generator import SampleGenerator
from gftzoo.layers import categorical
from gftzoo_maskgit.masking import Schedule, share, smallest


class SamplerOptions(Frozen):
    """Settings of the sampler."""

    steps: int = Field(16, gt=0, description="passes of the network, or of each pass of the guidance")
    choice_temperature: float = Field(
        4.5, ge=0, description="of the noise on how confident a code is; it falls to nothing over the steps"
    )
    temperature: float = Field(1.0, gt=0, description="of the softmax over codes; beta, GFT's, is another")
    mask_schedule: Schedule = Field("cosine", description="from the share of the steps done to the share still masked")
    guidance_power: float | None = Field(
        None,
        gt=0,
        description="ramps of the guidance follow (1 - cos(pi t^power)) / 2, t the share of steps before; null: t",
    )

    def progress(self, step: int) -> float:
        """How far the guidance's ramp is at a step."""
        if self.guidance_power is None:
            return step / max(self.steps - 1, 1)
        return (1 - math.cos(math.pi * (step / self.steps) ** self.guidance_power)) / 2


class Draws(Protocol):
    """The random numbers of a step; those of a batch's own streams, or recorded ones."""

    def codes(self, logits_BMV: Tensor) -> Tensor:
        """One value (B, M) of each distribution."""

    def gumbel(self) -> Tensor:
        """Standard Gumbel noise (B, M)."""


class OwnDraws:
    """Numbers of each image's own stream: one for a value, one for its noise."""

    def __init__(self, generator: SampleGenerator, parts: int) -> None:
        self.generator, self.parts = generator, parts

    def codes(self, logits_BMV: Tensor) -> Tensor:
        return categorical.draw(logits_BMV, self.generator.uniform(self.parts))

    def gumbel(self) -> Tensor:
        least = torch.finfo(torch.float32).tiny  # keeps both logarithms finite
        uniform_BM = self.generator.uniform(self.parts).clamp(min=least)
        return -torch.log(-torch.log(uniform_BM).clamp(max=-least))


@torch.no_grad()
def sample(
    model: Model, condition: Tensor, guidance: Guidance, settings: SamplerOptions, generator: SampleGenerator
) -> Tensor:
    """Codes (B, N), int64, from nothing but the condition."""
    network = model.network
    parts = network.codes * network.splits
    codes_BM = torch.zeros(len(condition), parts, dtype=torch.long, device=condition.device)
    masked_BM = torch.ones_like(codes_BM, dtype=torch.bool)
    steered = Steered(model, condition, guidance)
    found_BM = decode(network, steered, settings, OwnDraws(generator, parts), codes_BM, masked_BM)
    return network.join(found_BM)


@torch.no_grad()
def decode(
    network: Any,
    steered: Steered,
    settings: SamplerOptions,
    draws: Draws,
    codes_BM: Tensor,
    masked_BM: Tensor,
    start: int = 0,
) -> Tensor:
    """Parts of codes (B, M): those given, and drawn ones where `masked_BM` is true.

    Args:
        network: gives logits.
        steered: conditions and guidance.
        settings: of the sampler.
        draws: random numbers.
        codes_BM: known parts; others are not read.
        masked_BM: the parts to draw.
        start: the first step, for pictures of which much is known.
    """
    total_B, double = masked_BM.sum(1), network.options.kind == "mage"

    for step in range(start, settings.steps):
        logits_BMV = steered.predict(network, settings.progress(step), codes_BM, masked_BM) / settings.temperature
        codes_BM = torch.where(masked_BM, draws.codes(logits_BMV), codes_BM)
        if step + 1 < settings.steps:
            done = (step + 1) / settings.steps
            chosen_BM = logits_BMV.log_softmax(-1).gather(-1, codes_BM[..., None]).squeeze(-1)
            confidence_BM = chosen_BM + settings.choice_temperature * (1 - done) * draws.gumbel()
            left_B = still_masked(done, settings.mask_schedule, total_B, masked_BM, double)
            masked_BM = smallest(confidence_BM.masked_fill(~masked_BM, math.inf), left_B)
    return codes_BM


def still_masked(done: float, schedule: Schedule, total_B: Tensor, masked_BM: Tensor, double: bool) -> Tensor:
    """How many parts (B,) stay masked: what the schedule says, but fewer than now, and one at least.

    The share is computed in float64 where `double` is true, as MAGE's code does, and in float32 otherwise: at 8 of 12
    steps of a cosine, half of the codes, or half of the codes but one.
    """
    progress = torch.tensor(done, dtype=torch.float64 if double else torch.float32)
    left_B = (share(progress, schedule, masked_BM.shape[1]).to(total_B.device) * total_B).floor().long()
    now_B = masked_BM.sum(1)
    return left_B.minimum(now_B - 1).clamp(min=1).minimum(now_B)
