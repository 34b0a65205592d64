"""Sampling: from noise along the predicted velocities. Suffixes: B images, G rows of the network's batch."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from gftzoo.generator import SampleGenerator
from gftzoo.contract.guidance import Guidance
from gftzoo.layers.temperature import each
from gftzoo.contract.model import Model


class SamplerOptions(BaseModel):
    """Settings of the sampler: `gftzoo sample acme-nano -s steps=10`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(25, gt=0, description="Euler steps, one pass of the network each (two with CFG)")


# CHANGE: your own procedure. `guidance` makes it a sampler for GFT, for CFG and for no guidance at once: give the
# network what `repeat`, `expand` and `beta` return, and pass its prediction through `combine`.
def sample(
    model: Model, condition: Tensor, guidance: Guidance, settings: SamplerOptions, generator: SampleGenerator
) -> Tensor:
    """Latents (B, C, H, W) for the conditions (B,)."""
    card = model.card
    x_BCHW = generator.normal(card.tokenizer.channels, card.grid, card.grid)
    condition_G = guidance.expand(condition, model.null_condition(condition))
    for step in range(settings.steps):
        progress = step / max(settings.steps - 1, 1)
        x_GCHW = guidance.repeat(x_BCHW)
        t_G = torch.full((len(x_GCHW),), step / settings.steps, device=x_BCHW.device)
        beta_G = guidance.beta(len(x_GCHW), progress, x_BCHW.device)
        velocity_GCHW = each(model.network(x_GCHW, t_G, condition_G, beta_G), Tensor.float)
        x_BCHW = x_BCHW + guidance.combine(velocity_GCHW, progress) / settings.steps
    return x_BCHW
