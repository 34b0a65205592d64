"""DPM-Solver and DPM-Solver++, singlestep, third order: U-ViT's samplers (arXiv 2206.00927, 2211.01095).

Both integrate a linear equation exactly and expand the rest in lambda = log(alpha / sigma): the first the predicted
noise, the second the predicted data. A step of order n asks the network n times.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gftzoo_diffusion.processes.schedule import half_snr, log_sigma
from gftzoo_diffusion.samplers.drawing import Drawing

LAST_DISCRETE, LAST_CONTINUOUS = 1e-3, 1e-4  # where the official samplers stop


def orders(steps: int) -> list[int]:
    """Orders of the steps that ask the network `steps` times together: threes, then what is left."""
    threes, rest = divmod(steps, 3)
    if rest == 0 and threes:
        return [3] * (threes - 1) + [2, 1]
    return [3] * threes + [rest]


def of_data(drawing: Drawing) -> Tensor:
    """DPM-Solver++: steps of one length in time, the inner times as evenly spaced as they."""
    wanted = orders(drawing.settings.steps)
    count, start = sum(wanted), drawing.settings.start
    times = [start + (LAST_DISCRETE - start) * i / count for i in range(count + 1)]
    return Solver(drawing, True).follow(wanted, times)


def of_noise(drawing: Drawing) -> Tensor:
    """DPM-Solver: steps of one length in lambda, the inner times at thirds, or at the half, of each."""
    wanted = orders(drawing.settings.steps)
    process, start = drawing.process, drawing.settings.start
    first, last = half_snr(process, start), half_snr(process, LAST_CONTINUOUS)
    length = (last - first) / len(wanted)
    times = [start]
    for index, order in enumerate(wanted):
        times += [process.time_at(first + length * (index + inner / order)) for inner in range(1, order + 1)]
    return Solver(drawing, False).follow(wanted, times)


@dataclass(frozen=True)
class Solver:
    """A solver of the diffusion ODE.

    Attributes:
        drawing: what is drawn from.
        data: whether the predicted data is expanded, or the noise.
    """

    drawing: Drawing
    data: bool

    def follow(self, wanted: list[int], times: list[float]) -> Tensor:
        """Latents at the last of the times, which are every one that the network is asked at, and the end."""
        x_BCHW, index = self.drawing.start(), 0
        for order in wanted:
            x_BCHW = self.step(x_BCHW, times[index : index + order + 1], index, sum(wanted))
            index += order
        return x_BCHW

    def step(self, x_BCHW: Tensor, times: list[float], asked: int, of: int) -> Tensor:
        """One step over `times` (order + 1 of them), after `asked` of `of` questions."""
        points = [Point.at(self.drawing.process, t) for t in times]
        start, end = points[0], points[-1]
        predictions = [self.ask(x_BCHW, points[0], asked, of)]
        whole = self.length(start, end)
        if len(points) == 2:
            return self.towards(x_BCHW, start, end, predictions[0])
        r1 = self.length(start, points[1]) / whole
        x1 = self.towards(x_BCHW, start, points[1], predictions[0])
        predictions.append(self.ask(x1, points[1], asked + 1, of))
        slope = (predictions[1] - predictions[0]) / r1
        if len(points) == 3:
            correction = -self.gain(end) * 0.5 * math.expm1(whole)
            return self.towards(x_BCHW, start, end, predictions[0]) + correction * slope
        r2 = self.length(start, points[2]) / whole
        x2 = self.towards(x_BCHW, start, points[2], predictions[0])
        x2 = x2 - self.gain(points[2]) * r2 * (math.expm1(r2 * whole) / (r2 * whole) - 1) * slope
        slope = (self.ask(x2, points[2], asked + 2, of) - predictions[0]) / r2
        correction = -self.gain(end) * (math.expm1(whole) / whole - 1)
        return self.towards(x_BCHW, start, end, predictions[0]) + correction * slope

    def length(self, start: Point, end: Point) -> float:
        """The step in lambda; backwards for the data, of which the same formulas then hold."""
        return (start.half_snr - end.half_snr) if self.data else (end.half_snr - start.half_snr)

    def gain(self, point: Point) -> float:
        """The factor of the prediction."""
        return point.alpha if self.data else point.sigma

    def towards(self, x_BCHW: Tensor, start: Point, end: Point, prediction: Tensor) -> Tensor:
        """The step of first order."""
        kept = end.sigma / start.sigma if self.data else end.alpha / start.alpha
        return kept * x_BCHW - self.gain(end) * math.expm1(self.length(start, end)) * prediction

    def ask(self, x_BCHW: Tensor, point: Point, asked: int, of: int) -> Tensor:
        """The predicted noise or data."""
        noise = self.drawing(x_BCHW, point.shown, asked / max(of - 1, 1), 1 - point.t)
        return (x_BCHW - point.sigma * noise) / point.alpha if self.data else noise


@dataclass(frozen=True)
class Point:
    """A time of the schedule, and what it means."""

    t: float
    alpha: float
    sigma: float
    half_snr: float
    shown: float

    @classmethod
    def at(cls, process: Any, t: float) -> Point:
        """The point of a process at t."""
        log_alpha = process.log_alpha(t)
        noise = log_sigma(log_alpha)
        return cls(t, math.exp(log_alpha), math.exp(noise), log_alpha - noise, process.shown_at(t))


SAMPLERS: dict[str, Callable[[Drawing], Tensor]] = {"dpm-solver++3": of_data, "dpm-solver3": of_noise}
