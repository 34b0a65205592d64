"""The variance-preserving diffusion in continuous time (arXiv 2011.13456), as U-ViT's L models are trained on it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gftzoo.generator import SampleGenerator
from gftzoo_diffusion.processes.process import Process

LEAST, MOST = 0.1, 20.0  # the rate of noise at t = 0 and at t = 1
SHOWN = 999  # times t is what the network is told


class VPSDE(Process):
    """Times are t in [0, 1)."""

    samplers = ("dpm-solver3", "dpm-solver++3")

    def draw(self, generator: SampleGenerator) -> Tensor:
        return generator.uniform()

    def alpha_bar(self, t_B: Tensor) -> Tensor:
        """What is kept of the signal's variance (B,)."""
        return torch.exp(-(LEAST * t_B + 0.5 * (MOST - LEAST) * t_B.square()))

    def noised(self, x_0: Tensor, t_B: Tensor, noise: Tensor) -> Tensor:
        kept_BX = self.alpha_bar(t_B).view(-1, *[1] * (x_0.ndim - 1))
        return kept_BX.sqrt() * x_0 + (1 - kept_BX).sqrt() * noise

    def progress(self, t: float) -> float:
        return 1 - t

    def shown(self, t_B: Tensor) -> Tensor:
        return SHOWN * t_B

    def signal_to_noise(self, t_B: Tensor) -> Tensor:
        kept_B = self.alpha_bar(t_B)
        return kept_B / (1 - kept_B)

    def log_alpha(self, t: float) -> float:
        return -0.5 * LEAST * t - 0.25 * (MOST - LEAST) * t * t

    def time_at(self, half_snr: float) -> float:
        noise = math.log1p(math.exp(-2 * half_snr))  # -2 log alpha
        span = MOST - LEAST
        return 2 * noise / (math.sqrt(LEAST**2 + 2 * span * noise) + LEAST)

    def shown_at(self, t: float) -> float:
        return SHOWN * t
