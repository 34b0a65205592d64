"""LoRA (arXiv 2106.09685) in the UNet's attention, through peft: the frozen weight W becomes W + alpha/r B A."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gftzoo.layers.temperature import is_slope
from gftzoo_sd.network import SDNetwork

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
ADAPTER = "default"
TEMPERATURE = "time_embedding.cond_proj.weight"  # new in a fine-tuned network, and trained in full


def add_lora(unet: nn.Module, network: SDNetwork) -> nn.Module:
    """Freezes the UNet but for the temperature's projection, and adds trainable factors, B zero; in place."""
    from peft import LoraConfig, inject_adapter_in_model  # slow to import, and most runs need none of it

    rank = network.lora_rank
    assert rank is not None, "asked for only with a rank"
    unet.requires_grad_(False)
    alpha = network.lora_alpha or rank
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(TARGETS)), unet, ADAPTER)
    for name, parameter in unet.named_parameters():
        if name == TEMPERATURE or ".lora_" in name or is_slope(name):
            parameter.requires_grad_(True)
    return unet


def is_target(key: str) -> bool:
    """Whether a weight of a plain UNet gets LoRA factors."""
    return any(key.removesuffix(".weight").removesuffix(".bias").endswith(f".{name}") for name in TARGETS)


def with_factors(tensors: Mapping[str, Tensor], rank: int) -> dict[str, Tensor]:
    """A plain UNet's state dict as that of one with LoRA, the factors without effect."""
    found: dict[str, Tensor] = {}
    for key, value in tensors.items():
        module, _, kind = key.rpartition(".")
        if not is_target(key):
            found[key] = value
            continue
        found[f"{module}.base_layer.{kind}"] = value
        if kind == "weight":
            outer, inner = value.shape
            factor = nn.init.kaiming_uniform_(torch.empty(rank, inner), a=math.sqrt(5))
            found[f"{module}.lora_A.{ADAPTER}.weight"] = factor
            found[f"{module}.lora_B.{ADAPTER}.weight"] = torch.zeros(outer, rank)
    return found


@torch.no_grad()
def merged(unet: nn.Module) -> dict[str, Tensor]:
    """The state dict of the plain UNet that computes the same; a UNet without LoRA gives its own."""
    from peft.tuners.lora import LoraLayer

    found = {key.replace(".base_layer.", "."): t for key, t in unet.state_dict().items() if ".lora_" not in key}
    for name, module in unet.named_modules():
        if isinstance(module, LoraLayer):
            found[f"{name}.weight"] = found[f"{name}.weight"] + module.get_delta_weight(ADAPTER)
    return found
