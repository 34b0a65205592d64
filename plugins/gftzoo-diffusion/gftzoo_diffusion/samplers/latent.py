"""Latent diffusion's own samplers, by the schedulers of diffusers: DDIM and PLMS (arXiv 2202.09778).

Their steps are a whole stride apart from 1, and the last one ends at the noise of timestep 0, not at none.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gftzoo.contract.pieces import ramp
from gftzoo.generator import SampleGenerator
from gftzoo_diffusion.samplers.drawing import Drawing
from gftzoo_diffusion.samplers.settings import DiffusionSampler

PUBLISHED = {"steps_offset": 1, "set_alpha_to_one": False, "timestep_spacing": "leading"}


def latent(drawing: Drawing) -> Tensor:
    """Latents (B, C, h, w); PLMS asks the network once more than it has steps."""
    scheduler = build_scheduler(drawing.settings.sampler, drawing.process.scheduler)
    scheduler.set_timesteps(drawing.settings.steps)
    return follow(drawing, scheduler, scheduler.timesteps.tolist())


def follow(drawing: Drawing, scheduler: Any, timesteps: list[int]) -> Tensor:
    """Latents (B, C, h, w) behind the last of the timesteps."""
    process, settings, x_BCHW = drawing.process, drawing.settings, drawing.start()
    for share, t in ramp(timesteps):
        noise = drawing(x_BCHW, t + process.first, share, process.progress(t))
        x_BCHW = scheduler.step(noise, t, x_BCHW, **step_noise(settings, x_BCHW, drawing.generator)).prev_sample
    return x_BCHW


def build_scheduler(name: str, process: dict[str, Any]) -> Any:
    """The scheduler of a sampler."""
    from diffusers import DDIMScheduler, PNDMScheduler  # here, since it takes seconds and only sampling needs it

    if name == "plms":
        return PNDMScheduler(**process, **PUBLISHED, skip_prk_steps=True)
    return DDIMScheduler(**process, **PUBLISHED, clip_sample=False)


def step_noise(settings: DiffusionSampler, x_BCHW: Tensor, generator: SampleGenerator) -> dict[str, Any]:
    """What DDIM adds, from the samples' own streams."""
    if settings.sampler != "ldm-ddim" or not settings.eta:
        return {}
    return {"eta": settings.eta, "variance_noise": generator.normal(*x_BCHW.shape[1:])}
