"""The flow's ordinary differential equation, dx/dt = v, from noise at t = 0 to data at t = 1.

`heun`, `midpoint` and `rk4` are torchdiffeq's methods of these names (its rk4 is the 3/8 rule), `dopri5` is Dormand and
Prince's with steps of its own for each image, so that an image does not depend on its batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from gftzoo.contract.pieces import ramp
from gftzoo_diffusion.samplers.drawing import Drawing

Velocity = Callable[[float, Tensor], Tensor]
# Times of the stages, the weights of earlier stages in each, and those of the result (Butcher's tableaus).
Tableau = tuple[Sequence[float], Sequence[Sequence[float]], Sequence[float]]
TABLEAUS: Final[dict[str, Tableau]] = {
    "euler": ((0.0,), ((),), (1.0,)),
    "heun": ((0.0, 1.0), ((), (1.0,)), (0.5, 0.5)),
    "midpoint": ((0.0, 0.5), ((), (0.5,)), (0.0, 1.0)),
    "rk4": ((0.0, 1 / 3, 2 / 3, 1.0), ((), (1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)), (1 / 8, 3 / 8, 3 / 8, 1 / 8)),
}
DOPRI5: Final[Tableau] = (
    (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0),
    (
        (),
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    ),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0.0),
)
EMBEDDED: Final = (5179 / 57600, 0.0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40)  # fourth order
SAFETY, SHRINK, GROW = 0.9, 0.2, 10.0
LEAST_STEP = 1e-5


def fixed(drawing: Drawing) -> Tensor:
    """Latents (B, C, h, w) after `steps` equal steps."""
    tableau, steps = TABLEAUS[drawing.settings.sampler], drawing.settings.steps
    first, last = drawing.process.span(drawing.process.sampled)
    x_BCHW, length = drawing.start(), last - first
    for share, index in ramp(range(steps)):
        t = first + length * index / steps
        stages = run_stages(tableau, velocity(drawing, share), t, x_BCHW, length / steps)
        x_BCHW = x_BCHW + length * total(stages, tableau[2]) / steps
    return x_BCHW


def adaptive(drawing: Drawing) -> Tensor:
    """Latents (B, C, h, w), each image with steps as long as its error allows."""
    starts = drawing.start().split(1)
    rows = [alone(drawing, index) for index in range(len(starts))]
    return torch.cat([integrate(row, start) for row, start in zip(rows, starts, strict=True)])


def alone(drawing: Drawing, row: int) -> Drawing:
    """What one image is drawn from."""
    return replace(drawing, steered=drawing.steered.row(row))


def integrate(drawing: Drawing, x_BCHW: Tensor) -> Tensor:
    """The state of one image (1, C, h, w) at the last time."""
    relative, absolute = drawing.settings.tolerance, 1e-3 * drawing.settings.tolerance
    field = velocity(drawing)
    t, last = drawing.process.span(drawing.process.sampled)
    step = first_step(field, t, x_BCHW, relative, absolute)
    while t < last:
        step = min(step, last - t)
        stages = run_stages(DOPRI5, field, t, x_BCHW, step)
        after = x_BCHW + step * total(stages, DOPRI5[2])
        wrong = step * (total(stages, DOPRI5[2]) - total(stages, EMBEDDED))
        error = size(wrong, absolute + relative * torch.maximum(x_BCHW.abs(), after.abs()))
        if error <= 1 or step <= LEAST_STEP:
            t, x_BCHW = (last if step >= last - t else t + step), after
        # a field that is not finite ends here, and the core says so
        factor = SAFETY * error**-0.2 if error > 0 else GROW
        step = max(step * min(GROW, max(SHRINK, factor)), LEAST_STEP)
    return x_BCHW


def first_step(field: Velocity, t: float, x_BCHW: Tensor, relative: float, absolute: float) -> float:
    """A first step by Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, II.4."""
    scale = absolute + relative * x_BCHW.abs()
    slope = field(t, x_BCHW)
    guess = 0.01 * size(x_BCHW, scale) / max(size(slope, scale), 1e-10)
    bend = size(field(t + guess, x_BCHW + guess * slope) - slope, scale) / max(guess, 1e-10)
    most = max(size(slope, scale), bend)
    return max(min(100 * guess, (0.01 / max(most, 1e-10)) ** 0.2), LEAST_STEP)


def size(x: Tensor, scale: Tensor) -> float:
    """The root mean square of x / scale."""
    return float((x / scale).square().mean().sqrt())


def velocity(drawing: Drawing, share: float | None = None) -> Velocity:
    """The guided velocity (B, C, h, w) at t; `share` of the steps that lie behind, t itself where it is None."""

    def field(t: float, x_BCHW: Tensor) -> Tensor:
        return drawing.process.velocity(drawing(x_BCHW, t, t if share is None else share, t), x_BCHW, t)

    return field


def run_stages(tableau: Tableau, field: Velocity, t: float, x_BCHW: Tensor, step: float) -> list[Tensor]:
    """The velocities at the stages of a step."""
    stages: list[Tensor] = []
    for at, weights in zip(*tableau[:2], strict=True):
        here = x_BCHW + step * total(stages, weights) if stages else x_BCHW
        stages.append(field(min(t + at * step, 1.0), here))
    return stages


def total(stages: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The weighted sum of the stages."""
    first, *others = (weight * stage for stage, weight in zip(stages, weights, strict=True) if weight)
    return sum(others, first)
