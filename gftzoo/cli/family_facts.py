"""What `gftzoo info` says of a card that only its family knows: options, exports, and what training costs."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import BaseModel

from gftzoo.catalogue.cards import ModelCard
from gftzoo.cli.shipped import spelt
from gftzoo.engine import Job, TrainConfig
from gftzoo.engine.parallel.place import Place
from gftzoo.engine.run import estimate
from gftzoo.errors import UsageError
from gftzoo.families.family import Family
from gftzoo.families.finding import load_family


def family_facts(card: ModelCard) -> dict[str, Any]:
    """The options, exports and costs of a card whose family is installed, plain JSON."""
    family = load_family(card.family)
    options = family.options()
    return {
        "sampler_options": spelt(fields_of(options.sampler), card.sampler),
        "network_options": spelt(fields_of(type(card.network_options(options.network))), card.network),
        "exports": ["safetensors", "official", "adapter", *options.exports],
        "training_step": training_step(card, family),
    }


def fields_of(schema: type[BaseModel]) -> dict[str, list[str]]:
    """The fields of a family's option schema: default, as Python writes it, and description."""
    return {
        name: [repr(field.get_default(call_default_factory=True)), field.description or ""]
        for name, field in schema.model_fields.items()
    }


def training_step(card: ModelCard, family: Family) -> dict[str, Any]:
    """Memory and FLOPs of a GFT step of one image at the model's own resolution, in fp32; or why there is none."""
    try:
        return _costs(card, family)
    except UsageError as error:  # of a network that can take no temperature
        return {"none": str(error)}


def _costs(card: ModelCard, family: Family) -> dict[str, Any]:
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
