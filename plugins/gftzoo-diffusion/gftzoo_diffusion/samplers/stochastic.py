"""The stochastic differential equation of a flow: as much noise is added as the score takes away (arXiv 2401.08740).

dx = (v + w s) dt + sqrt(2 w) dW with the velocity v and the score s, which the guided prediction gives, and any w(t).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gftzoo.contract.pieces import ramp
from gftzoo_diffusion.samplers.drawing import Drawing


def stochastic(drawing: Drawing) -> Tensor:
    """Latents (B, C, h, w) after `steps` steps, of which the last one adds no noise, unless it is as the others."""
    settings, process, x_BCHW = drawing.settings, drawing.process, drawing.start()
    plain_end = settings.last_step == "none"
    count = settings.steps if plain_end else settings.steps - 1
    start, last = process.span(process.sampled, pushed=settings.diffusion == "sbdm")
    end = last if plain_end else 1 - settings.last_step_size
    dt = (end - start) / max(count, 1)
    for share, index in ramp(range(count)):
        t = start + index * dt
        noise = drawing.generator.normal(*x_BCHW.shape[1:])
        kicked = math.sqrt(2 * process.diffusion(settings.diffusion, t) * dt) * noise
        if settings.sampler == "sde":
            x_BCHW = x_BCHW + dt * drift(drawing, x_BCHW, t, share) + kicked
        else:
            moved = x_BCHW + kicked
            first = drift(drawing, moved, t, share)
            second = drift(drawing, moved + dt * first, t + dt, share)
            x_BCHW = moved + 0.5 * dt * (first + second)
    return x_BCHW if plain_end else LAST[settings.last_step](drawing, x_BCHW, end)


def drift(drawing: Drawing, x_BCHW: Tensor, t: float, share: float) -> Tensor:
    """v + w s (B, C, h, w)."""
    process, prediction = drawing.process, drawing(x_BCHW, t, share, t)
    pull = process.diffusion(drawing.settings.diffusion, t) * process.score(prediction, x_BCHW, t)
    return process.velocity(prediction, x_BCHW, t) + pull


def by_mean(drawing: Drawing, x_BCHW: Tensor, t: float) -> Tensor:
    """A step of the stochastic equation without its noise."""
    return x_BCHW + (1 - t) * drift(drawing, x_BCHW, t, 1.0)


def by_euler(drawing: Drawing, x_BCHW: Tensor, t: float) -> Tensor:
    """A step of the ordinary equation."""
    return x_BCHW + (1 - t) * drawing.process.velocity(drawing(x_BCHW, t, 1.0, t), x_BCHW, t)


def by_tweedie(drawing: Drawing, x_BCHW: Tensor, t: float) -> Tensor:
    """The expected data, (x + sigma^2 s) / alpha."""
    path, at = drawing.process.path, torch.tensor(t, dtype=torch.float64)
    s_BCHW = drawing.process.score(drawing(x_BCHW, t, 1.0, t), x_BCHW, t)
    return (x_BCHW + float(path.sigma(at)) ** 2 * s_BCHW) / float(path.alpha(at))


LAST = {"mean": by_mean, "euler": by_euler, "tweedie": by_tweedie}
