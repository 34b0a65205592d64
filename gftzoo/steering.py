"""Which guidance a model understands: a temperature, a CFG scale, a classifier, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from gftzoo.arguments import choice, path, real
from gftzoo.catalogue.cards import Schedule
from gftzoo.contract.guidance import ByClassifier, ClassifierFree, Guidance, Temperature, Unguided
from gftzoo.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from gftzoo.contract.model import Model


def steered_by(model: Model, beta: float | None, cfg: float | None, schedule: Schedule | None) -> Guidance:
    """The guidance of a temperature, of a CFG scale, or of neither; see `gftzoo.Model.guidance`."""
    card = model.card
    beta = None if beta is None else real("beta", beta)
    cfg = None if cfg is None else real("cfg", cfg)
    choice("schedule", schedule, get_args(Schedule))
    if beta is not None and cfg is not None:
        raise UsageError("beta and cfg are two ways to steer a model; give one of them.")
    if card.temperature:
        if cfg is not None:
            raise UsageError(
                f"{card.name} was trained with GFT and is steered by beta, not by CFG; "
                f"for a CFG scale of {cfg:g} use --beta {1 / max(cfg, 1):.3g}."
            )
        return Temperature(1.0 if beta is None else beta, schedule or card.gft_schedule)
    if beta is not None and model.baked_beta is not None:
        raise UsageError(
            f"{card.name} has beta {model.baked_beta:g} folded into its weights and is "
            "sampled without --beta; for another one fold the model that it was made from again."
        )
    if beta is not None:
        raise UsageError(
            f"{card.name} has plain conditional weights and no temperature input; use --cfg "
            f"{1 / beta if beta > 0 else 2:.3g}, or train it with `gftzoo train {card.name} --gft`."
        )
    return Unguided() if cfg is None or cfg == 1.0 else ClassifierFree(cfg, schedule or card.cfg_schedule)


def steered_by_classifier(model: Model, file: str | Path | None, scale: float | None, **others: object) -> Guidance:
    """The guidance of a classifier of noisy samples, in a file of the family's; `others` are what excludes it."""
    if file is None:
        raise UsageError("a classifier's scale needs its file; give --classifier FILE as well.")
    other = next((word for word, value in others.items() if value is not None), None)
    if other is not None:
        raise UsageError(f"--{other} and --classifier are two ways to steer a model; give one of them.")
    if model.card.temperature or not model.family.offers("build_classifier"):
        way = "--beta" if model.card.temperature else "--cfg"
        raise UsageError(f"{model.card.name} is not guided by a classifier; use {way}.")
    guide = model.family.build_classifier(model.card, path("classifier", file))
    return ByClassifier(guide.to(model.device).eval(), 1.0 if scale is None else real("classifier_scale", scale))
