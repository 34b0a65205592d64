"""What `gftzoo info` does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import BaseModel
from rich.table import Table

from gftzoo.catalogue.cards import ModelCard
from gftzoo.cli.listing import provider, providers
from gftzoo.cli.tables import add_row, show, table
from gftzoo.engine import Job, TrainConfig
from gftzoo.engine.parallel.place import Place
from gftzoo.engine.run import estimate
from gftzoo.families.family import Family
from gftzoo.families.finding import load_family
from gftzoo.printing import say_json
from gftzoo.zoo import get_card


def show_model(model: str, as_json: bool) -> None:
    """Show the card of MODEL: sizes, recipes, weights, scores, sampler options, memory and FLOPs."""
    card = get_card(model)
    facts = card.model_dump(mode="json")
    facts["recipes"] = {name: facts["recipes"][name] for name in card.offered}
    installed = providers()
    facts["plugin"] = provider(card, installed)
    if card.family in installed:
        family = load_family(card.family)
        options = family.options()
        facts["sampler_options"] = schema_options(options.sampler, card.sampler)
        facts["network_options"] = schema_options(options.network, card.network)
        facts["exports"] = ["safetensors", "official", "adapter", *options.exports]
        facts["training_step"] = training_step(card, family)
    if as_json:
        say_json(facts)
        return
    show(info_table(facts))


def schema_options(schema: type[BaseModel], own: Mapping[str, Any]) -> dict[str, str]:
    """The fields of a family's option schema: default (the card's, if it has one) and description."""
    return {
        name: f"{own.get(name, field.get_default(call_default_factory=True))!r}  {field.description or ''}".rstrip()
        for name, field in schema.model_fields.items()
    }


def training_step(card: ModelCard, family: Family) -> dict[str, Any]:
    """Memory and FLOPs of a GFT training step of one image at the model's own resolution, in fp32."""
    config = TrainConfig(
        model=card.name, card=card.change(temperature=True), data=card.data or "own", steps=1, batch_size=1
    )
    cost = estimate.training_cost(Job(config, family), Place(torch.device("cpu")))
    return {
        "parameters": cost.parameters,
        "state_gib": round(cost.state_bytes / estimate.GIB, 3),
        "activations_gib_per_image": cost.activation_bytes and round(cost.activation_bytes / estimate.GIB, 4),
        "teraflops_per_image": cost.flops_per_image and round(cost.flops_per_image / 1e12, 4),
    }


def info_table(facts: dict[str, Any]) -> Table:
    """The card as two columns; nested values one per line."""
    result = table("", facts["name"])
    for key, value in facts.items():
        if key != "name" and value not in (None, {}, [], ""):
            add_row(result, key, _lines(value))
    return result


def _lines(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{k}: {_compact(v)}" for k, v in value.items())
    if isinstance(value, list):
        return "\n".join(_compact(v) for v in value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _compact(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}={v}" for k, v in value.items() if v not in (None, {}, [], ""))
    return str(value)
