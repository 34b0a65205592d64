"""alpha and sigma of x_t = alpha x_0 + sigma noise, t from noise to data, and their rates (SiT, arXiv 2401.08740)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor


class Path(ABC):
    """An interpolant.

    Attributes:
        starts: whether alpha is above 0 at t = 0, so that nothing divides by zero there.
    """

    starts: ClassVar[bool] = False

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """The factor of the data."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """The factor of the noise."""

    @abstractmethod
    def alpha_rate(self, t: Tensor) -> Tensor:
        """d alpha / dt."""

    @abstractmethod
    def sigma_rate(self, t: Tensor) -> Tensor:
        """d sigma / dt."""

    def growth(self, t: Tensor) -> Tensor:
        """d log alpha / dt: x_t's part of the velocity."""
        return self.alpha_rate(t) / self.alpha(t)

    def push(self, t: Tensor) -> Tensor:
        """The score's part of the velocity."""
        sigma = self.sigma(t)
        return self.growth(t) * sigma.square() - sigma * self.sigma_rate(t)


class Linear(Path):
    """alpha = t, sigma = 1 - t."""

    def alpha(self, t: Tensor) -> Tensor:
        return t

    def sigma(self, t: Tensor) -> Tensor:
        return 1 - t

    def alpha_rate(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma_rate(self, t: Tensor) -> Tensor:
        return -torch.ones_like(t)


class Circular(Path):
    """alpha = sin(pi t / 2), sigma = cos(pi t / 2): SiT's GVP."""

    def alpha(self, t: Tensor) -> Tensor:
        return (math.pi / 2 * t).sin()

    def sigma(self, t: Tensor) -> Tensor:
        return (math.pi / 2 * t).cos()

    def alpha_rate(self, t: Tensor) -> Tensor:
        return math.pi / 2 * (math.pi / 2 * t).cos()

    def sigma_rate(self, t: Tensor) -> Tensor:
        return -math.pi / 2 * (math.pi / 2 * t).sin()


class Preserving(Path):
    """The variance-preserving diffusion of arXiv 2011.13456 backwards: SiT's VP."""

    starts = True
    least, most = 0.1, 20.0

    def log_alpha(self, t: Tensor) -> Tensor:
        return -0.25 * (1 - t).square() * (self.most - self.least) - 0.5 * (1 - t) * self.least

    def alpha(self, t: Tensor) -> Tensor:
        return self.log_alpha(t).exp()

    def sigma(self, t: Tensor) -> Tensor:
        return (-torch.expm1(2 * self.log_alpha(t))).sqrt()

    def growth(self, t: Tensor) -> Tensor:
        return 0.5 * (1 - t) * (self.most - self.least) + 0.5 * self.least

    def push(self, t: Tensor) -> Tensor:
        return self.growth(t)

    def alpha_rate(self, t: Tensor) -> Tensor:
        return self.alpha(t) * self.growth(t)

    def sigma_rate(self, t: Tensor) -> Tensor:
        return -self.alpha(t).square() * self.growth(t) / self.sigma(t)
