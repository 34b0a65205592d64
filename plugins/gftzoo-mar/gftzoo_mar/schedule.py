"""The diffusion of one token: the cosine schedule, its respaced subset, the reverse step and the variational bound.

Suffixes: X any leading dimensions (tokens, batches of tokens), C channels of a token, K steps of a schedule.
Tables are computed in float64 and used in float32. "Denoising Diffusion Probabilistic Models" (arXiv 2006.11239) and
"Improved DDPM" (arXiv 2102.09672), as MAR's diffusion head uses them (LTH14/mar, diffusion/gaussian_diffusion.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cache, cached_property
from typing import Literal

import torch
from torch import Tensor

from gftzoo.errors import UsageError
from gftzoo.layers.diffusion import Posterior, binned_log_likelihood, even_timesteps, respaced_betas, strided_timesteps

TRAIN_STEPS = 1000
Spacing = Literal["even", "stride"]


@dataclass(frozen=True)
class Schedule:
    """Tables (K,) of a discrete diffusion; `timestep_K` is what the network is told at each of the K steps."""

    timestep_K: Tensor
    beta_K: Tensor
    alpha_bar_K: Tensor
    signal_K: Tensor
    noise_K: Tensor
    log_small_K: Tensor
    log_large_K: Tensor
    mean_x0_K: Tensor
    mean_xt_K: Tensor
    reverse_xt_K: Tensor
    reverse_eps_K: Tensor

    @classmethod
    def from_betas(cls, beta_K: Tensor, timestep_K: Tensor) -> Schedule:
        """The tables that follow from the betas (K,), float64."""
        alpha_bar_K = torch.cumprod(1 - beta_K, 0)
        posterior = Posterior.of(beta_K, alpha_bar_K)
        return cls(
            timestep_K=timestep_K,
            beta_K=beta_K,
            alpha_bar_K=alpha_bar_K,
            signal_K=alpha_bar_K.sqrt(),
            noise_K=(
                1 - alpha_bar_K
            ).sqrt(),  # 0.006 at the first step, of which float32's 1 - alpha_bar keeps 3 digits
            log_small_K=posterior.log_variance_K,
            log_large_K=beta_K.log(),
            mean_x0_K=posterior.mean_x0_K,
            mean_xt_K=posterior.mean_xt_K,
            reverse_xt_K=(1 - beta_K).rsqrt(),
            reverse_eps_K=beta_K / ((1 - alpha_bar_K) * (1 - beta_K)).sqrt(),
        )

    def to(self, device: torch.device) -> Schedule:
        """The tables on `device`, in float32 (timesteps stay integers)."""
        tables = {f.name: getattr(self, f.name) for f in fields(self)}
        return Schedule(**{k: v.to(device, v.dtype if k == "timestep_K" else torch.float32) for k, v in tables.items()})

    def corrupt(self, x0_XC: Tensor, t_X: Tensor, noise_XC: Tensor) -> Tensor:
        """x_t, the tokens with noise added (DDPM eq. 4)."""
        return self.signal_K[t_X, None] * x0_XC + self.noise_K[t_X, None] * noise_XC

    def reverse_mean(self, x_XC: Tensor, t_X: Tensor, eps_XC: Tensor) -> Tensor:
        """Mean of p(x_{t-1} | x_t) where the network predicts `eps_XC`; x_0 is not clipped (DDPM eq. 11)."""
        return self.reverse_xt_K[t_X, None] * x_XC - self.reverse_eps_K[t_X, None] * eps_XC

    def log_variance(self, t_X: Tensor, share_XC: Tensor) -> Tensor:
        """Between the lower bound (share -1) and the upper one (share 1), in the log (Improved DDPM eq. 15)."""
        fraction_XC = (share_XC + 1) / 2
        return fraction_XC * self.log_large_K[t_X, None] + (1 - fraction_XC) * self.log_small_K[t_X, None]

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

    def bound(self, x0_XC: Tensor, x_XC: Tensor, t_X: Tensor, eps_XC: Tensor, share_XC: Tensor) -> Tensor:
        """The variational bound's term of step t in bits per channel, (X,); it trains `share_XC` only."""
        mean_XC = self.reverse_mean(x_XC, t_X, eps_XC.detach())
        log_variance_XC = self.log_variance(t_X, share_XC)
        true_XC = self.mean_x0_K[t_X, None] * x0_XC + self.mean_xt_K[t_X, None] * x_XC
        true_log_X1 = self.log_small_K[t_X, None]
        kl_XC = 0.5 * (
            log_variance_XC
            - true_log_X1
            - 1
            + (true_log_X1 - log_variance_XC).exp()
            + (true_XC - mean_XC) ** 2 * (-log_variance_XC).exp()
        )
        likelihood_XC = binned_log_likelihood(x0_XC, mean_XC, 0.5 * log_variance_XC)
        return torch.where(t_X == 0, -likelihood_XC.mean(-1), kl_XC.mean(-1)) / math.log(2)


def cosine_betas() -> Tensor:
    """The squared-cosine schedule (TRAIN_STEPS,), float64, capped at 0.999 (Improved DDPM eq. 17)."""
    x_K = torch.arange(TRAIN_STEPS + 1, dtype=torch.float64) / TRAIN_STEPS
    alpha_bar_K = torch.cos((x_K + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - alpha_bar_K[1:] / alpha_bar_K[:-1]).clamp(max=0.999)


def chosen_steps(count: int, spacing: Spacing) -> list[int]:
    """`count` of the training steps, ascending: `even` from first to last, `stride` by a whole number from 0 on.

    Raises UsageError where no whole stride gives that many.
    """
    if not 2 <= count <= TRAIN_STEPS:
        raise UsageError(f"head_steps must lie in 2 to {TRAIN_STEPS} and is {count}.")
    if spacing == "even":
        return even_timesteps(count, TRAIN_STEPS)
    try:
        return strided_timesteps(count, TRAIN_STEPS)
    except ValueError as error:
        raise UsageError(f"head_steps={count} cannot be spaced by stride: {error}; try 10, 50 or 100.") from error


@cache
def training_tables() -> Schedule:
    """All steps, float64, on the CPU."""
    return Schedule.from_betas(cosine_betas(), torch.arange(TRAIN_STEPS))


@cache
def sampling_tables(count: int, spacing: Spacing) -> Schedule:
    """The respaced schedule, float64, on the CPU: the betas that keep alpha_bar at the chosen steps."""
    timesteps = chosen_steps(count, spacing)
    return Schedule.from_betas(respaced_betas(training_tables().alpha_bar_K, timesteps), torch.tensor(timesteps))


@cache
def training_schedule(device: torch.device) -> Schedule:
    """All TRAIN_STEPS steps, on `device`."""
    return training_tables().to(device)


@cache
def sampling_schedule(count: int, spacing: Spacing, device: torch.device) -> Schedule:
    """`count` steps, on `device`."""
    return sampling_tables(count, spacing).to(device)
