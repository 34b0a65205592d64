"""A model whose temperature is fixed, as a plain network: one pass without beta gives what it gave at that beta."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from torch import Tensor, nn

from gftzoo.adapters import merged, tensors_sha256
from gftzoo.catalogue.cards import Schedule
from gftzoo.contract.guidance import Temperature
from gftzoo.contract.model import Model
from gftzoo.errors import PluginError, UsageError
from gftzoo.weights.fitting import check_fit

AnyModel = TypeVar("AnyModel", bound=Model)

NOTE = (
    "One unguided pass draws what the model drew at this beta. Its unconditional prediction is no longer needed, and "
    "guidance on top would be guidance twice."
)


def bake(model: AnyModel, beta: float, schedule: Schedule | None = None) -> AnyModel:
    """The plain model that predicts what `model` predicts at `beta`; `model` stays as it is.

    Args:
        model: one with a temperature input.
        beta: the temperature, in (0, 1].
        schedule: None takes the card's.

    Raises:
        UsageError: no temperature input, beta out of range, or what cannot be folded: a ramp of the temperature over
            the sampling, a slope with blocks of its own, an embedding for which the plain network has no place.
    """
    model = merged(model)
    card, family = model.card, model.family
    if not card.temperature:
        guide = "has no temperature input"
        if model.baked_beta is not None:
            guide = f"has beta {model.baked_beta:g} in its weights already"
        raise UsageError(f"{card.name} {guide}; leave --beta out.")
    guidance = model.guidance(beta, schedule=schedule)
    if isinstance(guidance, Temperature) and guidance.schedule != "constant" and beta < 1:
        raise UsageError(
            f"{card.name} ramps its temperature over the sampling (schedule {guidance.schedule!r}), and a plain "
            "network has one; give --schedule constant, or sample it with --beta as it is."
        )
    if not family.offers("fold_temperature"):
        raise UsageError(f"family {family.name!r} cannot fold a temperature (it lacks the hook `fold_temperature`).")
    plain = card.change(temperature=False)
    network = family.build_network(plain)
    _load(network, family.fold_temperature(model, beta), family.name)
    network.to(model.device).train(model.network.training)
    return replace(model, card=plain, network=network, provenance=_provenance(model, beta))  # type: ignore[type-var]


def _load(network: nn.Module, tensors: Mapping[str, Tensor], family: str) -> None:
    try:
        check_fit(network, tensors, "what `fold_temperature` returns")
    except Exception as error:
        raise PluginError(f"family {family!r}: {error}") from error
    network.load_state_dict(dict(tensors))


def _provenance(model: Model, beta: float) -> dict[str, Any]:
    """That of the model, and what was baked: where it came from must stay known."""
    source = {key: value for key, value in model.provenance.items() if key in ("weights", "folder", "entry")}
    digest = model.provenance.get("sha256") or tensors_sha256(model.network.state_dict())
    baked: dict[str, Any] = {"model": model.card.name, "beta": beta, **source, "sha256": digest, "note": NOTE}
    return {**model.provenance, "baked": baked}
