"""The diffusion of one token: the cosine schedule, its respaced subset, the reverse step and the variational bound.

Suffixes: X any leading dimensions (tokens, batches of tokens), C channels of a token, K steps of a schedule.
Tables are computed in float64 and used in float32. "Denoising Diffusion Probabilistic Models" (arXiv 2006.11239) and
"Improved DDPM" (arXiv 2102.09672), as MAR's diffusion head uses them (LTH14/mar, diffusion/gaussian_diffusion.py).
"""

from __future__ import annotations

import math
from functools import cache, cached_property
from typing import Literal

import torch
from torch import Tensor

from gftzoo.errors import UsageError
from gftzoo.layers.diffusion import STEPS, Diffusion, cosine_betas, even_timesteps, strided_timesteps

Spacing = Literal["even", "stride"]


class Schedule(Diffusion):
    """The diffusion of a token, whose reverse step goes straight from x_t and noise to the mean."""

    def __init__(self, beta_K: Tensor, timestep_K: Tensor | None = None) -> None:
        super().__init__(beta_K, timestep_K)
        self.reverse_xt_K = (1 - beta_K).rsqrt()
        self.reverse_eps_K = beta_K / ((1 - self.alpha_bar_K) * (1 - beta_K)).sqrt()

    def reverse_mean(self, x_t: Tensor, t_X: Tensor, eps: Tensor) -> Tensor:
        return self.at(self.reverse_xt_K, t_X, x_t) * x_t - self.at(self.reverse_eps_K, t_X, x_t) * eps

    @cached_property
    def steps(self) -> list[tuple[float, float, float, float]]:
        """Of each step the factors of x_t and noise in the mean, and middle and half range of the log deviation."""
        middle_K = (self.log_large_K + self.log_small_K) / 4
        half_K = (self.log_large_K - self.log_small_K) / 4
        columns = (self.reverse_xt_K, self.reverse_eps_K, middle_K, half_K)
        return list(zip(*(column.tolist() for column in columns), strict=True))

    def step(self, x_XC: Tensor, k: int, eps_XC: Tensor, share: Tensor | float, noise_XC: Tensor) -> Tensor:
        """x_{k-1} given x_k; `noise_XC` carries the temperature; the last step (k = 0) adds none."""
        factor_x, factor_eps, middle, half = self.steps[k]
        mean_XC = torch.sub(factor_x * x_XC, eps_XC, alpha=factor_eps)
        if k == 0:
            return mean_XC
        if isinstance(share, float):
            return torch.add(mean_XC, noise_XC, alpha=math.exp(middle + half * share))
        return torch.addcmul(mean_XC, (middle + half * share).exp(), noise_XC)


def chosen_steps(count: int, spacing: Spacing) -> list[int]:
    """`count` of the training steps, ascending: `even` from first to last, `stride` by a whole number from 0 on.

    Raises UsageError where no whole stride gives that many.
    """
    if not 2 <= count <= STEPS:
        raise UsageError(f"head_steps must lie in 2 to {STEPS} and is {count}.")
    if spacing == "even":
        return even_timesteps(count, STEPS)
    try:
        return strided_timesteps(count, STEPS)
    except ValueError as error:
        raise UsageError(f"head_steps={count} cannot be spaced by stride: {error}; try 10, 50 or 100.") from error


@cache
def training_tables() -> Schedule:
    """All steps, float64, on the CPU."""
    return Schedule(cosine_betas())


@cache
def sampling_tables(count: int, spacing: Spacing) -> Schedule:
    """The respaced schedule, float64, on the CPU: the betas that keep alpha_bar at the chosen steps."""
    return training_tables().respaced(chosen_steps(count, spacing))


@cache
def training_schedule(device: torch.device) -> Schedule:
    """All STEPS steps, on `device`."""
    return training_tables().to(device)


@cache
def sampling_schedule(count: int, spacing: Spacing, device: torch.device) -> Schedule:
    """`count` steps, on `device`."""
    return sampling_tables(count, spacing).to(device)
