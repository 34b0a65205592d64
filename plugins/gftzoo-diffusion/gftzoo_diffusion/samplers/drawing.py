"""One call of a sampler: the guided prediction at a time. Suffixes: B images, G rows of the network's batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gftzoo.contract.model import Model
from gftzoo.contract.pieces import Steered
from gftzoo.generator import SampleGenerator
from gftzoo.layers.temperature import each, plain
from gftzoo_diffusion.samplers.settings import DiffusionSampler


@dataclass(frozen=True)
class Drawing:
    """What a sampler draws from.

    Attributes:
        model: the network and its card.
        process: of the shelf, one that the sampler can draw from.
        steered: conditions and guidance of the images.
        settings: the sampler's.
        generator: the images' random streams.
        given: what the network sees behind the channels of the noisy latents, (B, C, h, w); None for nothing.
    """

    model: Model
    process: Any
    steered: Steered
    settings: DiffusionSampler
    generator: SampleGenerator
    given: Tensor | None = None

    def start(self) -> Tensor:
        """Noise (B, C, h, w)."""
        card = self.model.card
        return self.generator.normal(card.tokenizer.channels, card.grid, card.grid)

    def everything(self, x_BCHW: Tensor, shown: float, share: float, time: float) -> Tensor:
        """The guided prediction and, behind it, the conditional pass's other channels, (B, C or more, h, w).

        Args:
            x_BCHW: the noisy latents.
            shown: the time as the network is told.
            share: of the steps that lie behind, 0 at the first and 1 at the last.
            time: share of the process's time that lies behind; guidance that follows time gets it.
        """
        rows, channels = x_BCHW.shape[:2]
        progress = time if self.steered.guidance.by_time else share
        t_B = torch.full((rows,), shown, device=x_BCHW.device)
        seen = x_BCHW if self.given is None else torch.cat([x_BCHW, self.given], 1)
        output_GC = self.steered.passes(self.model.network, progress, seen, t_B)
        first = channels if self.settings.guided_channels == "all" else min(3, channels)
        guided_BC = self.steered.combine(each(output_GC, lambda o: o[:, :first]), progress)
        return torch.cat([guided_BC, plain(output_GC)[:rows, first:]], dim=1)

    def push(self, x_BCHW: Tensor, shown: float) -> Tensor | None:
        """What guidance adds to the score of the noisy latents, (B, C, h, w); None where it adds nothing."""
        t_B = torch.full((len(x_BCHW),), shown, device=x_BCHW.device)
        return self.steered.guidance.push(x_BCHW, t_B, self.steered.condition_G[: len(x_BCHW)])

    def __call__(self, x_BCHW: Tensor, shown: float, share: float, time: float) -> Tensor:
        """The guided prediction alone, (B, C, h, w)."""
        return self.everything(x_BCHW, shown, share, time)[:, : x_BCHW.shape[1]]
