"""One sampler for GFT, CFG and unguided sampling, over the schedulers of diffusers.

Suffixes: B images, G rows of the network's batch.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from gftzoo.contract.guidance import Guidance
from gftzoo.contract.model import Model
from gftzoo.contract.pieces import SamplerChoice, Steered, away_from, ramp
from gftzoo.generator import SampleGenerator
from gftzoo.layers.diffusion import STEPS, Diffusion, scaled_linear_betas
from gftzoo_sd.network import predict_noise

START, END = 0.00085, 0.012  # of the noise of a step
# The training process of Stable Diffusion 1.x, and what its published scheduler configurations share.
PROCESS: dict[str, Any] = {
    "num_train_timesteps": STEPS,
    "beta_start": START,
    "beta_end": END,
    "beta_schedule": "scaled_linear",
}
PUBLISHED: dict[str, Any] = {"steps_offset": 1, "set_alpha_to_one": False, "timestep_spacing": "leading"}


class SDSampler(SamplerChoice):
    """Settings of the sampler."""

    only_of = {"eta": ("ddim",)}

    sampler: Literal["dpm-solver++", "ddim", "pndm"] = Field(
        "dpm-solver++", description="dpm-solver++ (second order), ddim or pndm"
    )
    steps: int = Field(50, gt=0, le=STEPS, description="network evaluations (pairs of them with CFG; pndm: one more)")
    eta: float = Field(0.0, ge=0.0, le=1.0, description="ddim: share of DDPM's noise; 0 is deterministic")
    negative_prompt: str = Field("", description="CFG only: what to steer away from, in place of the empty prompt")


@cache
def training_process(device: torch.device) -> Diffusion:
    """The noising process that the network is trained on, in float32 on a device."""
    return Diffusion(scaled_linear_betas(START, END)).to(device)


def build_scheduler(name: str) -> Any:
    """The scheduler of a sampler, configured as Stable Diffusion's; the solver as GFT's evaluation has it."""
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, PNDMScheduler  # slow to import

    if name == "ddim":
        return DDIMScheduler(**PROCESS, **PUBLISHED, clip_sample=False)
    if name == "pndm":
        return PNDMScheduler(**PROCESS, **PUBLISHED, skip_prk_steps=True)
    return DPMSolverMultistepScheduler(
        **PROCESS, algorithm_type="dpmsolver++", solver_order=2, solver_type="midpoint", timestep_spacing="linspace"
    )


def sample(
    model: Model, condition: Tensor, guidance: Guidance, settings: SDSampler, generator: SampleGenerator
) -> Tensor:
    """Latents (B, C, h, w) of prompt features (B, T, D); UsageError for a negative prompt without CFG."""
    card = model.card
    x_BCHW = generator.normal(card.tokenizer.channels, card.grid, card.grid)
    steered = Steered(model, condition, guidance, away_from(model, condition, guidance, settings.negative_prompt))
    scheduler = build_scheduler(settings.sampler)
    scheduler.set_timesteps(settings.steps, device=x_BCHW.device)
    network = partial(predict_noise, model.network)
    for progress, t in ramp(scheduler.timesteps):
        noise_B = steered.predict(network, progress, x_BCHW, t.expand(len(x_BCHW)))
        x_BCHW = scheduler.step(noise_B, t, x_BCHW, **step_noise(settings, x_BCHW, generator)).prev_sample
    return x_BCHW


def step_noise(settings: SDSampler, x_BCHW: Tensor, generator: SampleGenerator) -> dict[str, Any]:
    """DDIM's step noise, from the samples' own streams."""
    if settings.sampler != "ddim" or not settings.eta:
        return {}
    return {"eta": settings.eta, "variance_noise": generator.normal(*x_BCHW.shape[1:])}
