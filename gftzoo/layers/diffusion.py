"""What discrete diffusions share: schedules, tables, respaced steps, the reverse step's moments, its variational bound.

Suffixes: K steps of a diffusion, X any dimensions. "DDPM" is arXiv 2006.11239, "iDDPM" arXiv 2102.09672; numbers are
those of openai/guided-diffusion, gaussian_diffusion.py and respace.py. Tables are float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, repeat
from typing import Self

import torch
from torch import Tensor

STEPS = 1000  # of the published diffusions


class Diffusion:
    """Tables (K,) of a discrete diffusion, float64 on the CPU until they are moved `to` a device.

    Args:
        beta_K: noise added by each step, float64.
        timestep_K: what the network is told at each step; 0 to K - 1 if it is None.

    Attributes:
        alpha_bar_K: what is kept of the signal's variance.
        signal_K, noise_K: factors of x_0 and noise in x_t (DDPM eq. 4). The first noises are small, and float32's
            1 - alpha_bar keeps few of their digits.
        variance_K, log_small_K: of the posterior q(x_{t-1} | x_t, x_0), DDPM eq. 7, the lower bound of the variance.
        log_large_K: the upper bound.
        mean_x0_K, mean_xt_K: factors of x_0 and x_t in the posterior's mean.
        clean_xt_K, clean_eps_K: factors of x_t and noise in x_0.
    """

    def __init__(self, beta_K: Tensor, timestep_K: Tensor | None = None) -> None:
        self.timestep_K = torch.arange(len(beta_K)) if timestep_K is None else timestep_K
        self.beta_K = beta_K
        self.alpha_bar_K = alpha_bar_K = torch.cumprod(1 - beta_K, 0)
        before_K = _before(alpha_bar_K)
        self.signal_K, self.noise_K = alpha_bar_K.sqrt(), (1 - alpha_bar_K).sqrt()
        self.variance_K = beta_K * (1 - before_K) / (1 - alpha_bar_K)
        # The first variance is 0; its neighbour stands in.
        self.log_small_K = torch.cat([self.variance_K[1:2], self.variance_K[1:]]).log()
        self.log_large_K = beta_K.log()
        self.mean_x0_K = beta_K * before_K.sqrt() / (1 - alpha_bar_K)
        self.mean_xt_K = (1 - before_K) * (1 - beta_K).sqrt() / (1 - alpha_bar_K)
        self.clean_xt_K, self.clean_eps_K = alpha_bar_K.rsqrt(), (1 / alpha_bar_K - 1).sqrt()

    def respaced(self, timesteps: Sequence[int]) -> Self:
        """A diffusion that visits only these timesteps, ascending, with the same marginals at them."""
        return type(self)(respaced_betas(self.alpha_bar_K, timesteps), torch.tensor(timesteps))

    def to(self, device: torch.device) -> Self:
        """The tables on `device`, in float32 (timesteps stay integers)."""
        moved = object.__new__(type(self))  # without what a subclass has computed of the exact tables
        for name, table in vars(self).items():
            if isinstance(table, Tensor):
                setattr(moved, name, table.to(device, torch.float32 if table.is_floating_point() else table.dtype))
        return moved

    def at(self, table_K: Tensor, t_X: Tensor, like: Tensor) -> Tensor:
        """A table's values at the steps `t_X`, float32, shaped to multiply `like`, which begins with X."""
        return table_K.to(like.device, torch.float32)[t_X].view(*t_X.shape, *[1] * (like.ndim - t_X.ndim))

    def noised(self, x0: Tensor, t_X: Tensor, noise: Tensor) -> Tensor:
        """x_t of q(x_t | x_0), DDPM eq. 4."""
        return self.at(self.signal_K, t_X, x0) * x0 + self.at(self.noise_K, t_X, x0) * noise

    def predicted_x0(self, x_t: Tensor, t_X: Tensor, eps: Tensor) -> Tensor:
        """x_0 from the predicted noise, the inverse of `noised`."""
        return self.at(self.clean_xt_K, t_X, x_t) * x_t - self.at(self.clean_eps_K, t_X, x_t) * eps

    def posterior_mean(self, x0: Tensor, x_t: Tensor, t_X: Tensor) -> Tensor:
        """The mean of q(x_{t-1} | x_t, x_0), DDPM eq. 7."""
        return self.at(self.mean_x0_K, t_X, x0) * x0 + self.at(self.mean_xt_K, t_X, x_t) * x_t

    def reverse_mean(self, x_t: Tensor, t_X: Tensor, eps: Tensor) -> Tensor:
        """The mean of p(x_{t-1} | x_t) where the network predicts `eps`; x_0 is not clipped (DDPM eq. 11)."""
        return self.posterior_mean(self.predicted_x0(x_t, t_X, eps), x_t, t_X)

    def log_variance(self, values: Tensor, t_X: Tensor) -> Tensor:
        """Of a learned output in [-1, 1]: between the lower bound and the upper one, in the log (iDDPM eq. 15)."""
        share = (values + 1) / 2
        return share * self.at(self.log_large_K, t_X, values) + (1 - share) * self.at(self.log_small_K, t_X, values)

    def variational_bound(self, x0: Tensor, x_t: Tensor, t_X: Tensor, eps: Tensor, values: Tensor) -> Tensor:
        """L_vlb of the learned variance in bits per dimension, (X,); the mean is held fixed (iDDPM section 3.1)."""
        mean = self.reverse_mean(x_t, t_X, eps.detach())
        log_variance = self.log_variance(values, t_X)
        kl = gaussian_kl(self.posterior_mean(x0, x_t, t_X), self.at(self.log_small_K, t_X, x0), mean, log_variance)
        likelihood = binned_log_likelihood(x0, mean, 0.5 * log_variance)
        first = (t_X == 0).view(*t_X.shape, *[1] * (x0.ndim - t_X.ndim))
        return torch.where(first, -likelihood, kl).flatten(t_X.ndim).mean(-1) / math.log(2)


def linear_betas(start: float, end: float, steps: int = STEPS) -> Tensor:
    """The noise (K,) of each step, float64: it grows linearly (DDPM; DiT, ADM and MDT have it from 1e-4 to 0.02)."""
    return torch.linspace(start, end, steps, dtype=torch.float64)


def scaled_linear_betas(start: float, end: float, steps: int = STEPS) -> Tensor:
    """The noise (K,) of each step, float64: its square root grows linearly (latent diffusion, arXiv 2112.10752)."""
    return torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2


def cosine_betas(steps: int = STEPS) -> Tensor:
    """The noise (K,) of each step, float64: the signal falls as a squared cosine, by 0.999 at most (iDDPM eq. 17)."""
    time_K = torch.arange(steps + 1, dtype=torch.float64) / steps
    kept_K = ((time_K + 0.008) / 1.008 * math.pi / 2).cos().square()
    return (1 - kept_K[1:] / kept_K[:-1]).clamp(max=0.999)


def gaussian_kl(mean_p: Tensor, log_variance_p: Tensor, mean_q: Tensor, log_variance_q: Tensor) -> Tensor:
    """KL(p || q) of diagonal Gaussians, in nats, elementwise."""
    return 0.5 * (
        log_variance_q
        - log_variance_p
        - 1
        + (log_variance_p - log_variance_q).exp()
        + (mean_p - mean_q).square() * (-log_variance_q).exp()
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


def spaced_timesteps(spacing: str, steps: int) -> list[int]:
    """The timesteps of a spacing, ascending.

    `"50"`: 50 of them, evenly spaced and rounded, ends included; `"6,3,1"`: so many in each of three equal sections;
    `"ddim50"`: 50 with an integer stride from 0. Raises ValueError where that is not possible.
    """
    counts = spacing.removeprefix("ddim").split(",")
    if not all(count.strip().isdecimal() for count in counts) or (spacing.startswith("ddim") and len(counts) > 1):
        raise ValueError("it must read like 50, 6,3,1 or ddim50")
    sections = [int(count) for count in counts]
    if spacing.startswith("ddim"):
        return strided_timesteps(sections[0], steps)
    taken: list[int] = []
    start = 0
    for index, count in enumerate(sections):
        size = steps // len(sections) + (index < steps % len(sections))
        if not 0 < count <= size:
            raise ValueError(f"a section of {size} steps cannot be spaced to {count}")
        taken += [start + step for step in even_timesteps(count, size)]
        start += size
    return taken


def binned_log_likelihood(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log probability of `x` in [-1, 1], in bins of 1/255 to each side (DDPM eq. 13), elementwise."""

    def cdf(z: Tensor) -> Tensor:  # the tanh approximation that the official losses were computed with
        return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z.pow(3))))

    centred, inverse = x - mean, (-log_std).exp()
    upper, lower = cdf(inverse * (centred + 1 / 255)), cdf(inverse * (centred - 1 / 255))
    inside = torch.where(x > 0.999, 1 - lower, upper - lower)
    return torch.where(x < -0.999, upper, inside).clamp(min=1e-12).log()
