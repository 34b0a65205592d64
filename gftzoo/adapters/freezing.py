"""What of a network trains: all of it, factors of LoRA's, or the slope of an affine temperature alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.model import Model
from gftzoo.families.family import Family
from gftzoo.layers.initialisation import Empty
from gftzoo.layers.lora import add_lora, is_factor, plain_name
from gftzoo.layers.lora_options import LoraOptions

Way = Literal["all", "lora", "temperature"]

LARGE_CODEBOOK = 1024
RANK = 64


def slope_shape(card: ModelCard, family: Family) -> dict[str, Any]:
    """Network options of the slope that an adapter trains, of the card's family.

    Noise wants a block of d's own. On codes a read-out is enough, of low rank where the codebook is large. A variance
    that the base has learned goes on being used.
    """
    codebook = card.tokenizer.codebook
    if codebook is not None:
        return {"temperature_input": "affine", "temperature_rank": RANK if codebook >= LARGE_CODEBOOK else None}
    declared = family.options()
    variance = {"gft_variance": "learned"} if "gft_variance" in declared.network.model_fields else {}
    return {"temperature_input": "affine", "temperature_blocks": declared.slope_blocks, **variance}


def freeze(model: Model, way: Way, lora: LoraOptions | None = None) -> None:
    """Leaves gradients to what trains in that way, in place; with `lora` the factors are added.

    Of `lora` and `temperature` what the temperature adds to the plain network trains too, in full.
    """
    if way == "all":
        return
    network, own = model.network, temperature_names(model.card, model.family)
    network.requires_grad_(False)
    if way == "lora":
        add_lora(network, lora or LoraOptions())
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(is_factor(name) or plain_name(name) in own)


def frozen_matrices(network: nn.Module) -> Iterator[nn.Parameter]:
    """The parameters of linear layers and convolutions that do not train: what autocast rounds at every use."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            yield from (parameter for parameter in module.parameters(recurse=False) if not parameter.requires_grad)


def halve_frozen(network: nn.Module, dtype: torch.dtype) -> None:
    """Keeps them in autocast's dtype, in place, so that they are rounded once; a step computes what it computed."""
    for parameter in frozen_matrices(network):
        parameter.data = parameter.data.to(dtype)


def temperature_names(card: ModelCard, family: Family) -> set[str]:
    """State-dict keys that the temperature adds to the plain network."""
    with Empty():
        networks = [family.build_network(card.change(temperature=steered)) for steered in (card.temperature, False)]
    with_temperature, plain = (set(network.state_dict()) for network in networks)
    return with_temperature - plain


def adapter_tensors(network: nn.Module) -> dict[str, Tensor]:
    """What of a frozen network's state dict trains; the tensors are the network's own."""
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    return {name: value for name, value in network.state_dict().items() if name in trained}
