"""DPM-Solver++ of second order, multistep (arXiv 2211.01095).

Its numbers are those of diffusers' DPMSolverMultistepScheduler to the bit, without its import, which takes longer than
torch's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gftzoo.layers.diffusion import STEPS


class Stepped(NamedTuple):
    """What a step comes to, in diffusers' words."""

    prev_sample: Tensor


class MultistepSolver:
    """A solver and its way from noise to data, along which `step` is called once for each of `timesteps`.

    Args:
        process: arguments that make the process of a scheduler of diffusers.
        steps: of the way.
    """

    def __init__(self, process: Mapping[str, Any], steps: int) -> None:
        kept_K = torch.cumprod(1.0 - betas(process), dim=0)
        sigma_K = np.array(((1 - kept_K) / kept_K) ** 0.5)  # of the noise beside a signal of 1
        places = np.linspace(0, STEPS - 1, steps + 1).round()[::-1][:-1].astype(np.int64)
        on_the_way = np.interp(places, np.arange(STEPS), sigma_K)
        self.timesteps: list[int] = places.tolist()
        self.sigmas = torch.from_numpy(np.concatenate([on_the_way, [0]]).astype(np.float32))
        self.index, self.before = 0, torch.empty(0)  # the step, and the data that the last one predicted

    def step(self, eps: Tensor, step: int, x: Tensor) -> Stepped:
        """The latents (B, ...) after the next step, of the noise that the network finds in `x`."""
        alpha, sigma = parts(self.sigmas[self.index])
        x_0 = (x - sigma * eps) / alpha
        first = self.index in (0, len(self.timesteps) - 1)
        after = self._first_order(x_0, x) if first else self._second_order(x_0, x)
        self.index, self.before = self.index + 1, x_0
        return Stepped(after.to(x_0.dtype))

    def _first_order(self, x_0: Tensor, x: Tensor) -> Tensor:
        alpha, sigma = parts(self.sigmas[self.index + 1])
        sigma_now = parts(self.sigmas[self.index])[1]
        h = half_snr(self.sigmas[self.index + 1]) - half_snr(self.sigmas[self.index])
        return (sigma / sigma_now) * x.float() - (alpha * (torch.exp(-h) - 1.0)) * x_0

    def _second_order(self, x_0: Tensor, x: Tensor) -> Tensor:
        alpha, sigma = parts(self.sigmas[self.index + 1])
        sigma_now = parts(self.sigmas[self.index])[1]
        next_, now, before = (half_snr(self.sigmas[self.index + i]) for i in (1, 0, -1))
        h = next_ - now
        slope = (1.0 / ((now - before) / h)) * (x_0 - self.before)
        gain = alpha * (torch.exp(-h) - 1.0)
        return (sigma / sigma_now) * x.float() - gain * x_0 - 0.5 * gain * slope


def betas(process: Mapping[str, Any]) -> Tensor:
    """The noise added by each step (K,), float32, of arguments of a scheduler of diffusers."""
    if "trained_betas" in process:
        return torch.tensor(process["trained_betas"], dtype=torch.float32)
    power = {"linear": 1, "scaled_linear": 2}[process["beta_schedule"]]
    start, end = process["beta_start"] ** (1 / power), process["beta_end"] ** (1 / power)
    return torch.linspace(start, end, STEPS, dtype=torch.float32) ** power


def parts(sigma: Tensor) -> tuple[Tensor, Tensor]:
    """alpha and sigma of x_t = alpha x_0 + sigma noise, of the noise beside a signal of 1."""
    alpha = 1 / ((sigma**2 + 1) ** 0.5)
    return alpha, sigma * alpha


def half_snr(sigma: Tensor) -> Tensor:
    """log(alpha / sigma), of the noise beside a signal of 1."""
    alpha, sigma = parts(sigma)
    return torch.log(alpha) - torch.log(sigma)
