"""One sampler for GFT, CFG and unguided sampling, over the schedulers of diffusers.

DDPM and DDIM run on a respaced process: diffusers' scheduler gets the respaced betas and integer steps 0..n-1, the
network the timesteps those stand for, as OpenAI's code does. Suffixes: B images, G rows of the network's batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import ConfigDict, Field, field_validator
from torch import Tensor

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.guidance import Guidance
from gftzoo.contract.model import Model
from gftzoo.contract.pieces import SamplerChoice, Steered, ramp
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator
from gftzoo.layers.temperature import each, plain
from gftzoo_diffusion.network import DiTNetwork
from gftzoo_diffusion.process import STEPS, spaced_timesteps, training_process

Variance = Literal["auto", "learned", "fixed-small", "fixed-large"]
VARIANCE_TYPES = {"learned": "learned_range", "fixed-small": "fixed_small", "fixed-large": "fixed_large"}
RESPACED = ("ddpm", "ddim")


class DiffusionSampler(SamplerChoice):
    """Settings of the diffusion sampler."""

    model_config = ConfigDict(coerce_numbers_to_str=True)
    only_of = {
        "spacing": RESPACED,
        "variance": ("ddpm",),
        "eta": ("ddim",),
        "clip": RESPACED,
        "timestep_offset": ("dpm-solver++",),
    }

    sampler: Literal["ddpm", "ddim", "dpm-solver++"] = Field("dpm-solver++", description="ddpm, ddim or dpm-solver++")
    steps: int = Field(50, gt=0, le=STEPS, description="network evaluations (pairs of them with CFG)")
    spacing: str | None = Field(None, description="ddpm, ddim: sections like 6,3,1, or ddim50; overrides steps")
    variance: Variance = Field(
        "auto",
        description="ddpm: learned, fixed-small or fixed-large; auto is learned where the weights have it",
    )
    eta: float = Field(0.0, ge=0.0, le=1.0, description="ddim: share of DDPM's noise; 0 is deterministic")
    clip: bool = Field(False, description="ddpm, ddim: clip the predicted latent to [-1, 1]")
    timestep_offset: int = Field(
        0,
        ge=0,
        le=1,
        description="dpm-solver++: added to the timestep the network sees; the released GFT code adds 1",
    )
    guided_channels: Literal["all", "dit-3ch"] = Field(
        "all", description="CFG: all noise channels, or the first three only, as the official DiT sampler does"
    )

    @field_validator("spacing")
    @classmethod
    def _spacing_is_possible(cls, spacing: str | None) -> str | None:
        if spacing is not None:
            spaced_timesteps(spacing)
        return spacing


@dataclass(frozen=True)
class Route:
    """A scheduler and the way through it: pairs of the scheduler's step and the timestep that the network sees."""

    scheduler: Any
    steps: list[tuple[int, int]]
    arguments: dict[str, Any]
    learned_variance: bool = False


def sample(
    model: Model, condition: Tensor, guidance: Guidance, settings: DiffusionSampler, generator: SampleGenerator
) -> Tensor:
    """Latents (B, C, h, w) of the conditions (B,)."""
    card = model.card
    x_BCHW = generator.normal(card.tokenizer.channels, card.grid, card.grid)
    steered = Steered(model, condition, guidance)
    route = solver_route(settings) if settings.sampler == "dpm-solver++" else respaced_route(card, settings, generator)
    for progress, (step, timestep) in ramp(route.steps):
        output = guided(model, steered, x_BCHW, timestep, progress, settings)
        if not route.learned_variance:
            output = output[:, : x_BCHW.shape[1]]
        x_BCHW = route.scheduler.step(output, step, x_BCHW, **route.arguments).prev_sample
    return x_BCHW


def guided(
    model: Model, steered: Steered, x_BCHW: Tensor, timestep: int, progress: float, settings: DiffusionSampler
) -> Tensor:
    """The guided noise and, behind it, the conditional pass's variance channels, (B, C or 2C, h, w)."""
    rows, channels = x_BCHW.shape[:2]
    t_B = torch.full((rows,), timestep, device=x_BCHW.device)
    output_GC = steered.passes(model.network, progress, x_BCHW, t_B)
    first = channels if settings.guided_channels == "all" else min(3, channels)
    guided_BC = steered.combine(each(output_GC, lambda o: o[:, :first]), progress)
    return torch.cat([guided_BC, plain(output_GC)[:rows, first:]], dim=1)


def solver_route(settings: DiffusionSampler) -> Route:
    """DPM-Solver++ of second order on the training process, as GFT's evaluation uses it."""
    from diffusers import DPMSolverMultistepScheduler  # here, since it takes seconds and only sampling needs it

    scheduler = DPMSolverMultistepScheduler(
        num_train_timesteps=STEPS, beta_start=1e-4, beta_end=0.02, beta_schedule="linear"
    )
    scheduler.set_timesteps(settings.steps)
    return Route(scheduler, [(int(t), int(t) + settings.timestep_offset) for t in scheduler.timesteps], {})


def respaced_route(card: ModelCard, settings: DiffusionSampler, generator: SampleGenerator) -> Route:
    """DDPM or DDIM on the respaced process; step noise comes from the samples' own streams."""
    from diffusers import DDIMScheduler, DDPMScheduler

    process = training_process().respaced(spaced_timesteps(settings.spacing or str(settings.steps)))
    steps = list(enumerate(process.timestep_K.tolist()))[::-1]
    shared: dict[str, Any] = {
        "num_train_timesteps": len(steps),
        "trained_betas": process.beta_K.tolist(),
        "clip_sample": settings.clip,
    }
    arguments: dict[str, Any] = {"generator": generator.streams}
    variance = choose_variance(card, settings)
    if settings.sampler == "ddpm":
        scheduler: Any = DDPMScheduler(variance_type=VARIANCE_TYPES[variance], **shared)
    else:
        scheduler = DDIMScheduler(**shared)
        # After clipping, the direction must follow the clipped prediction, as in OpenAI's code.
        arguments |= {"eta": settings.eta, "use_clipped_model_output": settings.clip}
    scheduler.alphas_cumprod = process.alpha_bar_K  # float64, where diffusers keeps float32
    scheduler.set_timesteps(len(steps))
    return Route(scheduler, steps, arguments, settings.sampler == "ddpm" and variance == "learned")


def learned_variance(card: ModelCard) -> bool:
    """Whether there are variance channels that were trained: under GFT only where `gft_variance` says so."""
    network = card.network_options(DiTNetwork)
    return network.learn_sigma and (not card.temperature or network.gft_variance == "learned")


def choose_variance(card: ModelCard, settings: DiffusionSampler) -> str:
    """`auto` trusts the variance channels only of weights that were trained with them."""
    if settings.variance == "auto":
        return "learned" if learned_variance(card) else "fixed-large"
    if settings.variance == "learned" and not card.network_options(DiTNetwork).learn_sigma:
        raise UsageError(
            f"{card.name} has no variance channels (network.learn_sigma is false), so variance=learned is not "
            "possible; valid are auto, fixed-small and fixed-large."
        )
    return settings.variance
