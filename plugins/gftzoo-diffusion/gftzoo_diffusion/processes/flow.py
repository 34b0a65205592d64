"""Interpolants between noise and data, x_t = alpha x_0 + sigma noise, in the time of SiT (arXiv 2401.08740).

t runs from 0, where the noise is, to 1, where the data is, against the indices of a diffusion. Suffixes: B batch, X any
dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gftzoo.generator import SampleGenerator
from gftzoo_diffusion.processes.paths import Path
from gftzoo_diffusion.processes.process import Process

Predicted = Literal["velocity", "noise", "score"]


@dataclass(frozen=True, eq=False)
class Flow(Process):
    """An interpolant whose network predicts its velocity, the noise, or the score of the noised data.

    At a given x_t each is an affine function of the noise, so that guidance, and GFT with it, means the same in all.

    Args:
        path: alpha and sigma.
        predicted: what the network gives.
        trained, sampled: how near training and sampling come to times where the path divides by zero.
    """

    samplers: ClassVar = ("heun", "euler", "midpoint", "rk4", "dopri5", "sde", "sde-heun")

    path: Path
    predicted: Predicted = "velocity"
    trained: float = 0.0
    sampled: float = 0.0

    @property
    def weights(self) -> tuple[str, ...]:
        return ("one",) if self.predicted == "velocity" else ("one", "velocity", "likelihood")

    def draw(self, generator: SampleGenerator) -> Tensor:
        first, last = self.span(self.trained)
        return first + (last - first) * generator.uniform() if self.trained else generator.uniform()

    def span(self, margin: float, pushed: bool = False) -> tuple[float, float]:
        """The first and the last time, a margin from the ends of [0, 1] that they cannot reach.

        `pushed` where noise is added in proportion to the drift, which has no bound at pure noise.
        """
        first = margin if not self.path.starts and (pushed or self.predicted != "velocity") else 0.0
        return first, 1.0 - margin

    def noised(self, x_0: Tensor, t_B: Tensor, noise: Tensor) -> Tensor:
        t_BX = t_B.view(-1, *[1] * (x_0.ndim - 1))
        return self.path.alpha(t_BX) * x_0 + self.path.sigma(t_BX) * noise

    def progress(self, t: float) -> float:
        return t

    def target(self, x_0: Tensor, noise: Tensor, t_B: Tensor) -> Tensor:
        t_BX = t_B.view(-1, *[1] * (x_0.ndim - 1))
        if self.predicted == "velocity":
            return self.path.alpha_rate(t_BX) * x_0 + self.path.sigma_rate(t_BX) * noise
        return noise if self.predicted == "noise" else -noise / self.path.sigma(t_BX)

    def weight(self, name: str, t_B: Tensor) -> Tensor | None:
        """Of the squared error; a score's is that of the noise it stands for."""
        sigma_B, push_B = self.path.sigma(t_B), self.path.push(t_B)
        scale_B = sigma_B.square() if self.predicted == "score" else None
        if name == "one":
            return scale_B
        chosen_B = (push_B / sigma_B).square() if name == "velocity" else push_B / sigma_B.square()
        return chosen_B if scale_B is None else chosen_B * scale_B

    def velocity(self, prediction: Tensor, x_t: Tensor, t: float) -> Tensor:
        """dx_t / dt of a prediction at t."""
        if self.predicted == "velocity":
            return prediction
        at = torch.tensor(t, dtype=torch.float64)
        return float(self.path.growth(at)) * x_t + float(self.path.push(at)) * self.score(prediction, x_t, t)

    def score(self, prediction: Tensor, x_t: Tensor, t: float) -> Tensor:
        """The gradient of the log density of x_t that a prediction at t < 1 stands for."""
        if self.predicted == "score":
            return prediction
        at = torch.tensor(t, dtype=torch.float64)
        sigma = float(self.path.sigma(at))
        if self.predicted == "noise":
            return -prediction / sigma
        inverse = float(self.path.alpha(at) / self.path.alpha_rate(at))
        return (inverse * prediction - x_t) / (sigma**2 - inverse * float(self.path.sigma_rate(at)) * sigma)

    def diffusion(self, form: str, t: float) -> float:
        """w(t): how much noise the stochastic equation adds, in a form of SiT's."""
        at = torch.tensor(t, dtype=torch.float64)
        if form == "sbdm":
            return float(self.path.push(at))
        forms = {
            "sigma": float(self.path.sigma(at)),
            "linear": 1 - t,
            "decreasing": 0.25 * (math.cos(math.pi * t) + 1) ** 2,
            "increasing-decreasing": math.sin(math.pi * t) ** 2,
            "constant": 1.0,
        }
        return forms[form]
