"""How strongly the pictures of a run are steered: by the temperature, or by the CFG scale of a network without one."""

from __future__ import annotations

from gftzoo.contract.guidance import Guidance
from gftzoo.model import Model

STRIP_BETAS = (1.0, 0.8, 0.66, 0.5, 0.33)
STRIP_SCALES = (1.0, 1.25, 1.5, 2.0, 3.0)
USUAL = 3  # of them: what the grids show while a run trains, and what it is scored at


def strengths(model: Model) -> tuple[float, ...]:
    """The strengths of a strip, from none up."""
    if model.baked_beta is not None:  # there is one strength, and guidance on top would be another
        return (1.0,) * len(STRIP_SCALES)
    return STRIP_BETAS if model.card.temperature else STRIP_SCALES


def usual_strength(model: Model) -> float:
    """The strength of the grids."""
    return strengths(model)[USUAL]


def guidance_at(model: Model, strength: float) -> Guidance:
    """Sampling at a strength; UsageError for one that the model cannot be steered at."""
    return model.guidance(beta=strength) if model.card.temperature else model.guidance(cfg=strength)


def strength_name(model: Model) -> str:
    """`beta` or `cfg`."""
    return "beta" if model.card.temperature else "cfg"
