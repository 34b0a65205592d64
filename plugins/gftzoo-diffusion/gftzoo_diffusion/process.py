"""The diffusion process of DiT: 1,000 linear steps, noise prediction, variance learned between its two bounds.

"DDPM" is Ho et al., arXiv 2006.11239; "iDDPM" is Nichol & Dhariwal, arXiv 2102.09672. Tables are float64. Suffix B.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gftzoo.layers.diffusion import Posterior, binned_log_likelihood, even_timesteps, respaced_betas, strided_timesteps

STEPS = 1000


class Process:
    """Tables of a (possibly respaced) process; index i of the tables is timestep `timesteps[i]` of the full one.

    Args:
        betas: noise added per step, float64.
        timesteps: of the full process; all of them by default.
    """

    def __init__(self, betas: Tensor, timesteps: Sequence[int] | None = None) -> None:
        self.timesteps = list(range(len(betas))) if timesteps is None else list(timesteps)
        self.betas = betas
        self.alphas_cumprod = torch.cumprod(1 - betas, 0)
        self.posterior = Posterior.of(betas, self.alphas_cumprod)

    @classmethod
    def full(cls) -> Process:
        """DiT's training process."""
        return cls(torch.linspace(1e-4, 0.02, STEPS, dtype=torch.float64))

    @classmethod
    def spaced(cls, spacing: str) -> Process:
        """A process that visits only the timesteps of `spacing`, with the same marginals at those."""
        timesteps = spaced_timesteps(spacing)
        return cls(respaced_betas(cls.full().alphas_cumprod, timesteps), timesteps)

    def noised(self, x0: Tensor, t_B: Tensor, noise: Tensor) -> Tensor:
        """x_t of q(x_t | x_0), DDPM eq. 4."""
        signal = self.at(self.alphas_cumprod.sqrt(), t_B, x0)
        return signal * x0 + self.at((1 - self.alphas_cumprod).sqrt(), t_B, x0) * noise

    def predicted_x0(self, x_t: Tensor, t_B: Tensor, eps: Tensor) -> Tensor:
        """x_0 from the predicted noise, the inverse of `noised`."""
        a = self.alphas_cumprod
        return self.at(a.rsqrt(), t_B, x_t) * x_t - self.at((1 / a - 1).sqrt(), t_B, x_t) * eps

    def posterior_mean(self, x0: Tensor, x_t: Tensor, t_B: Tensor) -> Tensor:
        """The mean of q(x_{t-1} | x_t, x_0), DDPM eq. 7."""
        tables = self.posterior
        return self.at(tables.mean_x0_K, t_B, x0) * x0 + self.at(tables.mean_xt_K, t_B, x_t) * x_t

    def learned_log_variance(self, values: Tensor, t_B: Tensor) -> Tensor:
        """log variance of the network's second half, in [-1, 1] between the two bounds, iDDPM eq. 15."""
        share = (values + 1) / 2
        upper = self.at(self.betas.log(), t_B, values)
        return share * upper + (1 - share) * self.at(self.posterior.log_variance_K, t_B, values)

    def variational_bound(self, x0: Tensor, x_t: Tensor, t_B: Tensor, eps: Tensor, values: Tensor) -> Tensor:
        """L_vlb of the learned variance in bits per dimension, (B,); the mean is held fixed (iDDPM section 3.1)."""
        mean = self.posterior_mean(self.predicted_x0(x_t, t_B, eps.detach()), x_t, t_B)
        log_variance = self.learned_log_variance(values, t_B)
        true_log_variance = self.at(self.posterior.log_variance_K, t_B, x0)
        kl = gaussian_kl(self.posterior_mean(x0, x_t, t_B), true_log_variance, mean, log_variance)
        likelihood = binned_log_likelihood(x0, mean, 0.5 * log_variance)
        nats = torch.where((t_B == 0).view(-1, *[1] * (x0.ndim - 1)), -likelihood, kl)
        return nats.flatten(1).mean(1) / math.log(2)

    def at(self, table: Tensor, t_B: Tensor, like: Tensor) -> Tensor:
        """A table's values at `t_B`, float32, shaped to multiply `like`."""
        return table.float().to(like.device)[t_B].view(-1, *[1] * (like.ndim - 1))


def gaussian_kl(mean_p: Tensor, log_variance_p: Tensor, mean_q: Tensor, log_variance_q: Tensor) -> Tensor:
    """KL(p || q) of diagonal Gaussians, in nats, elementwise."""
    variance_ratio = (log_variance_p - log_variance_q).exp()
    distance = (mean_p - mean_q).square() * (-log_variance_q).exp()
    return 0.5 * (log_variance_q - log_variance_p - 1 + variance_ratio + distance)


def spaced_timesteps(spacing: str) -> list[int]:
    """The timesteps of a spacing, ascending.

    `"50"`: 50 of them, evenly spaced and rounded, ends included; `"6,3,1"`: so many in each of three equal sections;
    `"ddim50"`: 50 with an integer stride from 0. Raises ValueError where that is not possible.
    """
    counts = spacing.removeprefix("ddim").split(",")
    if not all(count.strip().isdecimal() for count in counts) or (spacing.startswith("ddim") and len(counts) > 1):
        raise ValueError("it must read like 50, 6,3,1 or ddim50")
    sections = [int(count) for count in counts]
    if spacing.startswith("ddim"):
        return strided_timesteps(sections[0], STEPS)
    taken: list[int] = []
    start = 0
    for index, count in enumerate(sections):
        size = STEPS // len(sections) + (index < STEPS % len(sections))
        if not 0 < count <= size:
            raise ValueError(f"a section of {size} steps cannot be spaced to {count}")
        taken += [start + step for step in even_timesteps(count, size)]
        start += size
    return taken
