"""Diffusions of 1,000 steps (DDPM, arXiv 2006.11239) and how they are respaced. Suffix K: steps of the diffusion."""

from __future__ import annotations

import math
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor

from gftzoo.generator import SampleGenerator
from gftzoo.layers import diffusion
from gftzoo.layers.diffusion import STEPS, Diffusion, cosine_betas, linear_betas, scaled_linear_betas
from gftzoo_diffusion.processes.process import Process
from gftzoo_diffusion.processes.schedule import interpolated


class Discrete(Process):
    """A diffusion in `STEPS` steps; times are indices from 0, int64.

    Args:
        beta_K: noise added by each step, float64.
        scheduler: arguments that make the same process of a scheduler of diffusers.
        first: what the network is told at index 0.
    """

    samplers = ("dpm-solver++", "ddpm", "ddim", "ldm-ddim", "plms", "dpm-solver++3", "dpm-solver3")

    def __init__(self, beta_K: Tensor, scheduler: dict[str, Any] | None = None, first: int = 0) -> None:
        self.first = first
        self.tables = Diffusion(beta_K)
        self.scheduler = {"num_train_timesteps": STEPS, **(scheduler or {"trained_betas": beta_K.tolist()})}

    @cache
    def on(self, device: torch.device) -> Diffusion:
        """The tables in float32 on a device."""
        return self.tables.to(device)

    def draw(self, generator: SampleGenerator) -> Tensor:
        return generator.integers(STEPS)

    def noised(self, x_0: Tensor, t_B: Tensor, noise: Tensor) -> Tensor:
        return self.on(x_0.device).noised(x_0, t_B, noise)

    def progress(self, t: float) -> float:
        return 1 - t / STEPS

    def shown(self, t_B: Tensor) -> Tensor:
        return t_B + self.first if self.first else t_B

    @cache
    def ratios_on(self, device: torch.device) -> Tensor:
        """The ratio of signal and noise of every step, float32, on a device."""
        kept = self.tables.alpha_bar_K
        return (kept / (1 - kept)).float().to(device)

    def signal_to_noise(self, t_B: Tensor) -> Tensor:
        return self.ratios_on(t_B.device)[t_B]

    def variances(self) -> Diffusion:
        return self.tables

    @cached_property
    def log_alphas(self) -> Tensor:
        """log alpha at (k + 1) / STEPS, float64."""
        return 0.5 * (1 - self.tables.beta_K).log().cumsum(0)

    @cached_property
    def knots(self) -> Tensor:
        """The times in (0, 1] of the steps."""
        return torch.arange(1, STEPS + 1, dtype=torch.float64) / STEPS

    def log_alpha(self, t: float) -> float:
        return interpolated(t, self.knots, self.log_alphas)

    def time_at(self, half_snr: float) -> float:
        log_alpha = -0.5 * math.log1p(math.exp(-2 * half_snr))
        return interpolated(log_alpha, self.log_alphas.flip(0), self.knots.flip(0))

    def shown_at(self, t: float) -> float:
        return STEPS * t - 1 + self.first


def linear(start: float, end: float) -> Discrete:
    """beta grows linearly."""
    return Discrete(linear_betas(start, end), {"beta_start": start, "beta_end": end, "beta_schedule": "linear"})


def scaled_linear(start: float, end: float, first: int = 0) -> Discrete:
    """The square root of beta grows linearly."""
    scheduler = {"beta_start": start, "beta_end": end, "beta_schedule": "scaled_linear"}
    return Discrete(scaled_linear_betas(start, end), scheduler, first)


def cosine() -> Discrete:
    """The signal falls as a squared cosine."""
    return Discrete(cosine_betas())


def spaced_timesteps(spacing: str) -> list[int]:
    """The timesteps of a spacing such as 50, 6,3,1 or ddim50, ascending; ValueError where it is not possible."""
    return diffusion.spaced_timesteps(spacing, STEPS)
