"""Noise schedules in continuous time, which solvers of the diffusion ODE read.

t is 0 where the data is and 1 where the noise is; x_t = alpha x_0 + sigma noise, alpha^2 + sigma^2 = 1, and lambda is
log(alpha / sigma), as in DPM-Solver (arXiv 2206.00927).
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor


class Schedule(Protocol):
    """A variance-preserving schedule."""

    def log_alpha(self, t: float) -> float:
        """log alpha at t."""

    def time_at(self, half_snr: float) -> float:
        """t where lambda is `half_snr`."""

    def shown_at(self, t: float) -> float:
        """What the network is told at t."""


def half_snr(schedule: Schedule, t: float) -> float:
    """lambda = log(alpha / sigma) at t, with the rounding of float32, which shows where there is hardly any noise."""
    log_alpha = torch.tensor(schedule.log_alpha(t), dtype=torch.float32)
    return float(log_alpha - 0.5 * (1 - (2 * log_alpha).exp()).log())


def log_sigma(log_alpha: float) -> float:
    """log sigma where log alpha is given."""
    return 0.5 * math.log(-math.expm1(2 * log_alpha))


def interpolated(x: float, knots: Tensor, values: Tensor) -> float:
    """The piecewise linear function through (knots, values), knots ascending; its end pieces go on for ever."""
    index = int(torch.searchsorted(knots, x).clamp(1, len(knots) - 1))
    x0, x1, y0, y1 = (float(v) for v in (*knots[index - 1 : index + 1], *values[index - 1 : index + 1]))
    return y0 + (x - x0) * (y1 - y0) / (x1 - x0)
