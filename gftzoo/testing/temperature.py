"""Checks of an affine temperature, and of one that is folded into plain weights. Suffix B: batch."""

from __future__ import annotations

import torch
from torch import Tensor

from gftzoo.contract.guidance import Temperature, Unguided
from gftzoo.errors import UsageError
from gftzoo.layers.temperature import Affine, TemperatureOptions
from gftzoo.testing.compare import ROUNDING, expect, other, same
from gftzoo.testing.contract import promises
from gftzoo.testing.sampling import DRAWS
from gftzoo.testing.subject import BATCH, Subject


@promises("predict", "A network with an affine temperature")
@torch.no_grad()
def affine_temperature_is_affine(subject: Subject) -> str:
    """Predictions at three temperatures lie on a line in s = 1/beta - 1, where the family offers such a network."""
    batch = affine_subject(subject).batch()
    found = batch.family.prediction(batch.model, batch.problem, batch.condition, batch.beta_B)
    if not isinstance(found, Affine):
        expect(not offers_affine(subject), "temperature_input=affine is an option, and `predict` returns a tensor.")
        return "the temperature is embedded"
    expect(found.c.shape == found.d.shape, f"c has shape {tuple(found.c.shape)} and d {tuple(found.d.shape)}.")
    at_0, at_1, at_3 = (batch.predict(beta=at_strength(s)) for s in (0, 1, 3))
    other(at_1, at_0, "predictions at beta 1/2 and 1")
    what = "three times the step from beta 1 to 1/2, and the step from 1 to 1/4"
    return same(at_0 + 3 * (at_1 - at_0), at_3, what, ROUNDING)


@promises("fold_temperature", "The state dict of the plain network")
def folded_temperature_draws_the_same(subject: Subject) -> str:
    """A temperature folded into plain weights draws, unguided, what the network drew at it, where it can be folded."""
    if not subject.family.offers("fold_temperature"):
        return "the family does not fold"
    found = ""
    for chosen in dict.fromkeys((subject, affine_subject(subject))):
        model = chosen.model(temperature=True)
        try:
            baked = model.bake(0.5, "constant")
        except UsageError as error:
            found = f"refused: {error}"
            continue
        drawn, expected = chosen.sample(baked, Unguided()), chosen.sample(model, Temperature(0.5))
        found = same(drawn, expected, "samples of the plain network, and at beta 1/2", DRAWS)
    return found


def at_strength(s: float) -> Tensor:
    """Temperatures (B,) of that strength."""
    return torch.full((BATCH,), 1 / (1 + s))


def offers_affine(subject: Subject) -> bool:
    """Whether the family's networks have the options of the shared temperature input."""
    return issubclass(subject.family.options().network, TemperatureOptions)


def affine_subject(subject: Subject) -> Subject:
    """The subject with an affine temperature alone, where that is an option of its network."""
    if not offers_affine(subject):
        return subject
    network = {**subject.card.network, "temperature_input": "affine"}
    return Subject(subject.card.change(network=network))
