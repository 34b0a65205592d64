"""Settings of all samplers of the shelf."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, field_validator

from gftzoo.contract.pieces import SamplerChoice
from gftzoo.layers.diffusion import STEPS
from gftzoo_diffusion.processes.discrete import spaced_timesteps

Variance = Literal["auto", "learned", "fixed-small", "fixed-large"]
Diffused = Literal["sigma", "linear", "decreasing", "increasing-decreasing", "constant", "sbdm"]
RESPACED = ("ddpm", "ddim")
STOCHASTIC = ("sde", "sde-heun")


class DiffusionSampler(SamplerChoice):
    """Settings of the diffusion sampler."""

    model_config = ConfigDict(coerce_numbers_to_str=True)
    only_of = {
        "spacing": RESPACED,
        "variance": ("ddpm",),
        "eta": ("ddim", "ldm-ddim"),
        "clip": RESPACED,
        "timestep_offset": ("dpm-solver++",),
        "start": ("dpm-solver++3", "dpm-solver3"),
        "diffusion": STOCHASTIC,
        "last_step": STOCHASTIC,
        "last_step_size": STOCHASTIC,
        "tolerance": ("dopri5",),
    }

    sampler: Literal[
        "dpm-solver++", "ddpm", "ddim", "ldm-ddim", "plms", "dpm-solver++3", "dpm-solver3",
        "heun", "euler", "midpoint", "rk4", "dopri5", "sde", "sde-heun",
    ] = Field(
        "dpm-solver++",
        description="dpm-solver++ (second order, multistep), ddpm or ddim; ldm-ddim or plms, latent diffusion's; "
        "dpm-solver++3 (U-ViT's third order, singlestep) or dpm-solver3 (the same on the noise); of a flow: heun, "
        "euler, midpoint, rk4, dopri5, sde or sde-heun",
    )  # fmt: skip
    steps: int = Field(
        50,
        gt=0,
        le=STEPS,
        description="network evaluations (pairs of them with CFG); of a flow: steps; dopri5 has its own",
    )
    spacing: str | None = Field(None, description="ddpm, ddim: sections like 6,3,1, or ddim50; overrides steps")
    variance: Variance = Field(
        "auto",
        description="ddpm: learned, fixed-small or fixed-large; auto is learned where the weights have it",
    )
    eta: float = Field(0.0, ge=0.0, le=1.0, description="ddim, ldm-ddim: share of DDPM's noise; 0 is deterministic")
    clip: bool = Field(False, description="ddpm, ddim: clip the predicted latent to [-1, 1]")
    timestep_offset: int = Field(
        0,
        ge=0,
        le=1,
        description="dpm-solver++: added to the timestep the network sees; the released GFT code adds 1",
    )
    start: float = Field(1.0, gt=0.01, le=1.0, description="dpm-solver++3, dpm-solver3: the time that they start from")
    diffusion: Diffused = Field(
        "sigma",
        description="sde: noise added at t: sigma is the path's, linear 1 - t, decreasing .25 (cos(pi t) + 1)^2, "
        "increasing-decreasing sin(pi t)^2, sbdm as much as the diffusion of the path has",
    )
    last_step: Literal["mean", "euler", "tweedie", "none"] = Field(
        "mean", description="sde: how the last step ends, without noise; none: as the others"
    )
    last_step_size: float = Field(0.04, gt=0, lt=0.5, description="sde: length of that step, in t")
    tolerance: float = Field(
        1e-3, gt=0, lt=1, description="dopri5: relative error of a step; the absolute one is 1e-3 of it"
    )
    base: str | None = Field(None, description="of an upsampler: the folder of the model whose images it enlarges")
    guided_channels: Literal["all", "dit-3ch"] = Field(
        "all", description="CFG: all predicted channels, or the first three only, as the official DiT sampler does"
    )

    @field_validator("spacing")
    @classmethod
    def _spacing_is_possible(cls, spacing: str | None) -> str | None:
        if spacing is not None:
            spaced_timesteps(spacing)
        return spacing
