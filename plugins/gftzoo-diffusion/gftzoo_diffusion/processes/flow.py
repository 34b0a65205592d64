"""Linear interpolants between noise and data, whose velocity is predicted (SiT, arXiv 2401.08740)."""

from __future__ import annotations

from torch import Tensor

from gftzoo.generator import SampleGenerator
from gftzoo_diffusion.processes.process import Process


class Flow(Process):
    """x_t = t x_0 + (1 - t) noise: t in [0, 1) runs from noise to data, against the indices of a diffusion.

    The velocity at a given x_t is an affine function of the noise, so that guidance, and GFT with it, means the same in
    both.
    """

    samplers = ("heun", "euler", "midpoint", "rk4", "dopri5", "sde", "sde-heun")

    def draw(self, generator: SampleGenerator) -> Tensor:
        return generator.uniform()

    def noised(self, x_0: Tensor, t_B: Tensor, noise: Tensor) -> Tensor:
        t_BX = t_B.view(-1, *[1] * (x_0.ndim - 1))
        return t_BX * x_0 + (1 - t_BX) * noise

    def progress(self, t: float) -> float:
        return t

    def target(self, x_0: Tensor, noise: Tensor) -> Tensor:
        """The velocity dx_t / dt."""
        return x_0 - noise
