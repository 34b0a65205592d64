"""Sampling: from noise along the predicted velocities. Suffix B: images."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from gftzoo.contract.guidance import Guidance
from gftzoo.contract.model import Model
from gftzoo.contract.pieces import Steered, ramp
from gftzoo.generator import SampleGenerator


class SamplerOptions(BaseModel):
    """Settings of the sampler: `gftzoo sample acme-nano -s steps=10`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(25, gt=0, description="Euler steps, one pass of the network each (two with CFG)")


# CHANGE: your own procedure. `Steered` makes it a sampler for GFT, for CFG and for no guidance at once: it calls the
# network as often as guidance wants, and combines what it predicts.
def sample(
    model: Model, condition: Tensor, guidance: Guidance, settings: SamplerOptions, generator: SampleGenerator
) -> Tensor:
    """Latents (B, C, H, W) for the conditions (B,)."""
    card = model.card
    x_BCHW = generator.normal(card.tokenizer.channels, card.grid, card.grid)
    steered = Steered(model, condition, guidance)
    for progress, step in ramp(range(settings.steps)):
        t_B = torch.full((len(x_BCHW),), step / settings.steps, device=x_BCHW.device)
        x_BCHW = x_BCHW + steered.predict(model.network, progress, x_BCHW, t_B) / settings.steps
    return x_BCHW
