"""One sampler for GFT, CFG and unguided sampling, over the schedulers of diffusers.

DDPM and DDIM run on a respaced process: diffusers' scheduler gets the respaced betas and integer steps 0..n-1, the
network the timesteps those stand for, as OpenAI's code does. Suffixes: B images, G rows of the network's batch.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from gftzoo.generator import SampleGenerator
from gftzoo.guidance import Guidance
from gftzoo.model import Model
from gftzoo_diffusion.process import STEPS, Process, spaced_timesteps

Variance = Literal["auto", "learned", "fixed-small", "fixed-large"]
VARIANCE_TYPES = {"learned": "learned_range", "fixed-small": "fixed_small", "fixed-large": "fixed_large"}


class DiffusionSampler(BaseModel):
    """Settings of the diffusion sampler."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sampler: Literal["ddpm", "ddim", "dpm-solver++"] = Field("dpm-solver++", description="ddpm, ddim or dpm-solver++")
    steps: int = Field(50, gt=0, le=STEPS, description="network evaluations (pairs of them with CFG)")
    spacing: str | None = Field(None, description="ddpm and ddim: '6,3,1' sections or 'ddim50'; overrides steps")
    variance: Variance = Field(
        "auto", description="ddpm: learned, fixed-small or fixed-large; auto is learned where the weights have learned it"
    )
    timestep_offset: int = Field(
        0, ge=0, le=1, description="dpm-solver++: added to the timestep fed to the network; the released GFT code adds 1"
    )
    guided_channels: Literal["all", "dit-3ch"] = Field(
        "all", description="CFG: all noise channels, or the first three only, as the official DiT sampler does"
    )
    clip: bool = Field(False, description="ddpm and ddim: clip the predicted image to [-1, 1]")

    @model_validator(mode="after")
    def _spacing_is_possible(self) -> DiffusionSampler:
        spaced_timesteps(self.spacing or str(self.steps))
        return self


def sample(
    model: Model, condition: Tensor, guidance: Guidance, settings: DiffusionSampler, generator: SampleGenerator
) -> Tensor:
    """Latents (B, C, h, w) of the conditions (B,)."""
    card = model.card
    x_BCHW = generator.normal(card.tokenizer.channels, card.grid, card.grid)
    if settings.sampler == "dpm-solver++":
        scheduler: Any = DPMSolverMultistepScheduler(
            num_train_timesteps=STEPS, beta_start=1e-4, beta_end=0.02, beta_schedule="linear"
        )
        scheduler.set_timesteps(settings.steps)
        plan = [(t, int(t) + settings.timestep_offset) for t in scheduler.timesteps]
        options: dict[str, Any] = {}
        variance = "none"
    else:
        process = Process.spaced(settings.spacing or str(settings.steps))
        variance = choose_variance(model, settings)
        scheduler = respaced_scheduler(process, settings, variance)
        plan = [(i, process.timesteps[i]) for i in reversed(range(len(process.timesteps)))]
        options = {"generator": generator.streams} if settings.sampler == "ddpm" else {}
    for index, (step, timestep) in enumerate(plan):
        progress = index / max(len(plan) - 1, 1)
        output = guided(model, x_BCHW, timestep, condition, guidance, progress, settings)
        if variance != "learned":
            output = output[:, : x_BCHW.shape[1]]
        x_BCHW = scheduler.step(output, step, x_BCHW, **options).prev_sample
    return x_BCHW


def guided(
    model: Model,
    x_BCHW: Tensor,
    timestep: int,
    condition: Tensor,
    guidance: Guidance,
    progress: float,
    settings: DiffusionSampler,
) -> Tensor:
    """The guided noise and, behind it, the conditional pass's variance channels, (B, C or 2C, h, w)."""
    rows, channels = x_BCHW.shape[:2]
    x_GCHW = guidance.repeat(x_BCHW)
    t_G = torch.full((len(x_GCHW),), timestep, device=x_BCHW.device)
    condition_G = guidance.expand(condition, model.null_condition(condition))
    beta_G = guidance.beta(len(x_GCHW), progress, x_BCHW.device)
    output_GC = model.network(x_GCHW, t_G, condition_G, beta_G).float()
    steered = channels if settings.guided_channels == "all" else min(3, channels)
    return torch.cat([guidance.combine(output_GC[:, :steered], progress), output_GC[:rows, steered:]], dim=1)


def choose_variance(model: Model, settings: DiffusionSampler) -> str:
    """`auto` trusts the variance channels only of weights that were trained with them: GFT trains the noise alone."""
    if settings.variance != "auto":
        return settings.variance
    return "learned" if model.card.network.get("learn_sigma", True) and not model.card.temperature else "fixed-large"


def respaced_scheduler(process: Process, settings: DiffusionSampler, variance: str) -> Any:
    """diffusers' DDPM or DDIM scheduler on the respaced betas."""
    shared: dict[str, Any] = {
        "num_train_timesteps": len(process.betas),
        "trained_betas": process.betas.tolist(),
        "clip_sample": settings.clip,
    }
    if settings.sampler == "ddpm":
        scheduler: Any = DDPMScheduler(variance_type=VARIANCE_TYPES[variance], **shared)
    else:
        scheduler = DDIMScheduler(**shared)
    scheduler.alphas_cumprod = process.alphas_cumprod  # float64, where diffusers keeps float32
    scheduler.set_timesteps(len(process.betas))
    return scheduler
