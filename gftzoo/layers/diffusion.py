"""What discrete diffusions share: the posterior, respaced steps, and the likelihood of the variational bound.

Suffixes: K steps of a diffusion, X any dimensions. "DDPM" is arXiv 2006.11239, "iDDPM" arXiv 2102.09672; numbers are
those of openai/guided-diffusion, gaussian_diffusion.py and respace.py. Tables are float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, repeat

import torch
from torch import Tensor


@dataclass(frozen=True)
class Posterior:
    """q(x_{t-1} | x_t, x_0), DDPM eq. 7: variance, its logarithm, and the factors of x_0 and x_t in the mean (K,)."""

    variance_K: Tensor
    log_variance_K: Tensor
    mean_x0_K: Tensor
    mean_xt_K: Tensor

    @classmethod
    def of(cls, beta_K: Tensor, alpha_bar_K: Tensor) -> Posterior:
        """The tables of a diffusion that adds `beta_K` and keeps `alpha_bar_K` of the signal's variance."""
        before_K = _before(alpha_bar_K)
        variance_K = beta_K * (1 - before_K) / (1 - alpha_bar_K)
        return cls(
            variance_K,
            torch.cat([variance_K[1:2], variance_K[1:]]).log(),  # the first is 0; its neighbour stands in
            beta_K * before_K.sqrt() / (1 - alpha_bar_K),
            (1 - before_K) * (1 - beta_K).sqrt() / (1 - alpha_bar_K),
        )


def respaced_betas(alpha_bar_K: Tensor, timesteps: Sequence[int]) -> Tensor:
    """The noise that the chosen steps have to add, each, so that the signal at them stays what it is."""
    kept_K = alpha_bar_K[list(timesteps)]
    return 1 - kept_K / _before(kept_K)


def _before(alpha_bar_K: Tensor) -> Tensor:
    return torch.cat([alpha_bar_K.new_ones(1), alpha_bar_K[:-1]])


def even_timesteps(count: int, steps: int) -> list[int]:
    """`count` of `steps` timesteps, ascending, from the first to the last; the first alone where one is wanted.

    The stride is summed up, not multiplied: half-way positions are rounded to the side that the official code takes.
    """
    stride = 1.0 if count == 1 else (steps - 1) / (count - 1)
    return [round(position) for position in accumulate(repeat(stride, count - 1), initial=0.0)]


def strided_timesteps(count: int, steps: int) -> list[int]:
    """`count` of `steps` timesteps, ascending, a whole stride apart from 0 on; ValueError where none gives as many."""
    for stride in range(1, steps):
        if len(range(0, steps, stride)) == count:
            return list(range(0, steps, stride))
    raise ValueError(f"no integer stride gives {count} of {steps} steps")


def binned_log_likelihood(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log probability of `x` in [-1, 1], in bins of 1/255 to each side (DDPM eq. 13), elementwise."""

    def cdf(z: Tensor) -> Tensor:  # the tanh approximation that the official losses were computed with
        return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z.pow(3))))

    centred, inverse = x - mean, (-log_std).exp()
    upper, lower = cdf(inverse * (centred + 1 / 255)), cdf(inverse * (centred - 1 / 255))
    inside = torch.where(x > 0.999, 1 - lower, upper - lower)
    return torch.where(x < -0.999, upper, inside).clamp(min=1e-12).log()
