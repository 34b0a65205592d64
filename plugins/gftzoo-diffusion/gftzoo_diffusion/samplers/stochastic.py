"""The flow's stochastic differential equation: as much noise is added as the score takes away (SiT, arXiv 2401.08740).

dx = (v + w s) dt + sqrt(2 w) dW with the score s = (t v - x) / (1 - t), which the guided velocity gives, and any w(t).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from gftzoo.contract.pieces import ramp
from gftzoo_diffusion.samplers.drawing import Drawing

# w at t; of a linear interpolant sigma is 1 - t.
FORMS: dict[str, Callable[[float], float]] = {
    "sigma": lambda t: 1 - t,
    "linear": lambda t: 1 - t,
    "decreasing": lambda t: 0.25 * (math.cos(math.pi * t) + 1) ** 2,
    "constant": lambda _: 1.0,
}


def stochastic(drawing: Drawing) -> Tensor:
    """Latents (B, C, h, w) after `steps` steps, of which the last one adds no noise, unless it is as the others."""
    settings, x_BCHW = drawing.settings, drawing.start()
    form = FORMS[settings.diffusion]
    plain_end = settings.last_step == "none"
    count = settings.steps if plain_end else settings.steps - 1
    end = 1.0 if plain_end else 1 - settings.last_step_size
    dt = end / max(count, 1)
    for share, index in ramp(range(count)):
        t = index * dt
        noise = drawing.generator.normal(*x_BCHW.shape[1:])
        kicked = math.sqrt(2 * form(t) * dt) * noise
        if settings.sampler == "sde":
            x_BCHW = x_BCHW + dt * drift(drawing, x_BCHW, t, share, form) + kicked
        else:
            moved = x_BCHW + kicked
            first = drift(drawing, moved, t, share, form)
            second = drift(drawing, moved + dt * first, t + dt, share, form)
            x_BCHW = moved + 0.5 * dt * (first + second)
    return x_BCHW if plain_end else LAST[settings.last_step](drawing, x_BCHW, end, form)


def drift(drawing: Drawing, x_BCHW: Tensor, t: float, share: float, form: Callable[[float], float]) -> Tensor:
    """v + w s (B, C, h, w)."""
    v_BCHW = drawing(x_BCHW, t, share, t)
    return v_BCHW + form(t) * score(x_BCHW, v_BCHW, t)


def score(x_BCHW: Tensor, v_BCHW: Tensor, t: float) -> Tensor:
    """The score of the noised data, which the velocity of a linear interpolant gives; t < 1."""
    return (t * v_BCHW - x_BCHW) / (1 - t)


def by_mean(drawing: Drawing, x_BCHW: Tensor, t: float, form: Callable[[float], float]) -> Tensor:
    """A step of the stochastic equation without its noise."""
    return x_BCHW + (1 - t) * drift(drawing, x_BCHW, t, 1.0, form)


def by_euler(drawing: Drawing, x_BCHW: Tensor, t: float, _: Callable[[float], float]) -> Tensor:
    """A step of the ordinary equation."""
    return x_BCHW + (1 - t) * drawing(x_BCHW, t, 1.0, t)


def by_tweedie(drawing: Drawing, x_BCHW: Tensor, t: float, _: Callable[[float], float]) -> Tensor:
    """The expected data, (x + sigma^2 s) / alpha."""
    s_BCHW = score(x_BCHW, drawing(x_BCHW, t, 1.0, t), t)
    return (x_BCHW + (1 - t) ** 2 * s_BCHW) / t


LAST = {"mean": by_mean, "euler": by_euler, "tweedie": by_tweedie}
