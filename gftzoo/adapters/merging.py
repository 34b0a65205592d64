"""Adapters folded into their base."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from gftzoo.adapters.record import adapter_of
from gftzoo.contract.model import Model
from gftzoo.layers.lora import is_factor, merged_state
from gftzoo.weights.saving import trained_further

AnyModel = TypeVar("AnyModel", bound=Model)


def merged(model: AnyModel) -> AnyModel:
    """The model as one that stands alone: factors added into their weights; one without an adapter as it is."""
    if adapter_of(model) is None:
        return model
    network = model.network
    if any(is_factor(name) for name in network.state_dict()):
        network = model.family.build_network(model.card).to(model.device)
        network.load_state_dict(merged_state(model.network))
    known = trained_further(model.provenance) if model.changed else model.provenance
    provenance = {"merged" if key == "adapter" else key: value for key, value in known.items()}
    return replace(
        model,  # type: ignore[type-var]
        network=network,
        provenance=provenance,
    )
