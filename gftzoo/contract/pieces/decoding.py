"""Samplers of networks that draw the codes of an image one after the other.

Suffixes: B images, G rows of the network's batch, B for each pass of the guidance, N codes of an image, V codebook.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from gftzoo.contract.guidance import Guidance, Temperature
from gftzoo.contract.model import Model
from gftzoo.contract.pieces.codes import CodeSampling
from gftzoo.contract.pieces.sampling import Steered, ramp
from gftzoo.errors import UsageError
from gftzoo.layers.decoding import Decoder
from gftzoo.layers.temperature import plain

NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class DecodingSettings(CodeSampling):
    """Settings of a sampler that decodes; a family's own inherit them."""

    temperature: float = Field(1.0, ge=0, description="of the softmax over codes; beta, GFT's, is another")

    def likely(self, logits_XV: Tensor) -> Tensor:
        return super().likely(logits_XV / max(self.temperature, 1e-5))

    def of(self, n: int) -> CodeSampling:
        """The settings of code `n`."""
        return self


class PartSettings(DecodingSettings):
    """Settings of a sampler whose positions have several codes, for each of which they may be others."""

    part_temperature: tuple[NonNegative, ...] = Field(
        (), description="temperature of each code of a position; [] is one for all"
    )
    part_top_k: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (), description="top_k of each code of a position; [] is one for all"
    )
    part_top_p: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (), description="top_p of each code of a position; [] is one for all"
    )
    part_guidance: tuple[NonNegative, ...] = Field(
        (), description="strength of the guidance on each code of a position, with a linear schedule; [] is 1 for all"
    )

    def check(self, parts: int) -> None:
        """UsageError where a setting is not given for each of so many codes."""
        for name in ("part_temperature", "part_top_k", "part_top_p", "part_guidance"):
            given = getattr(self, name)
            if given and len(given) != parts:
                raise UsageError(
                    f"sampler setting {name} = {list(given)} has {len(given)} value(s) and a position has {parts} "
                    f"codes; give one for each, or [] for the same for all."
                )

    def of(self, n: int) -> CodeSampling:
        chosen = {
            name: values[n % len(values)]
            for name in ("temperature", "top_k", "top_p")
            if (values := getattr(self, f"part_{name}"))
        }
        return DecodingSettings(**{"temperature": self.temperature, "top_k": self.top_k, "top_p": self.top_p, **chosen})

    def progress(self, positions: int, parts: int) -> list[float]:
        """How far a ramp of the guidance is at each code."""
        return list(self.part_guidance or [1.0] * parts) * positions


@torch.no_grad()
def decode(
    decoder: Decoder,
    steered: Steered,
    settings: DecodingSettings,
    uniform_BN: Tensor,
    progress: Sequence[float] | None = None,
    guided: int | None = None,
) -> Tensor:
    """Codes (B, N), int64; each takes one uniform number of its image's own stream.

    Args:
        decoder: of the rows `steered.condition_G`.
        steered: conditions and guidance.
        settings: of the sampler.
        uniform_BN: in [0, 1).
        progress: how far the guidance's ramp is at each code, and beta with it; None is from 0 at the first to 1 at
            the last, in even steps.
        guided: how many codes are guided, the first ones; None is all.
    """
    if steered.compiler is not None:
        decoder.compile(steered.compiler)
    if progress is None:
        progress = [at for at, _ in ramp(range(uniform_BN.shape[1]))]
    images, steering = len(uniform_BN), True
    codes: list[Tensor] = []
    for n, at in enumerate(progress):
        if steering and guided is not None and n >= guided:
            decoder.keep(images)  # the conditional rows come first
            steering = False
        code = codes[-1] if codes else None
        if steering:
            code_G = None if code is None else steered.guidance.repeat(code)
            logits_BV = steered.combine(decoder.logits(n, code_G, steered.beta(at)), at)
        else:
            logits_BV = plain(decoder.logits(n, code, None))
        codes.append(settings.of(n).draw(logits_BV, uniform_BN[:, n]))
    return torch.stack(codes, 1)


def cosine_power(codes: int, power: float) -> list[float]:
    """(1 - cos(pi (n / N)^power)) / 2 for each of N codes: from 0 up; power 0 is 1 for all, guidance without a ramp."""
    return [(1 - math.cos(math.pi * (n / codes) ** power)) / 2 for n in range(codes)]


def refuse_ramp(model: Model, embeds: bool, guidance: Guidance) -> None:
    """UsageError for a temperature that changes on the way, where the network embeds one before the first code."""
    if embeds and isinstance(guidance, Temperature) and guidance.schedule != "constant":
        raise UsageError(
            f"{model.card.name} reads beta once, before the first code, and cannot follow schedule "
            f"{guidance.schedule!r}; valid is 'constant' (leave --schedule out), or a model trained with "
            "-o network.temperature_input=affine."
        )
