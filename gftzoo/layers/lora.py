"""LoRA (arXiv 2106.09685) in the layers of any network, through peft: the frozen weight W becomes W + alpha/r B A."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from gftzoo.errors import GftzooError, UsageError
from gftzoo.layers.lora_options import LoraOptions
from gftzoo.layers.temperature import is_slope

ADAPTER = "default"


def target_layers(network: nn.Module, pattern: str) -> list[str]:
    """Names of the linear layers and convolutions that match as a whole, but for those of a slope and beside one.

    Raises UsageError where there is none.
    """
    kinds = [(name, m) for name, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    layers = [name for name, m in kinds if not is_slope(name) and "slope" not in m._modules]
    chosen = [name for name in layers if re.fullmatch(pattern, name)]
    if not chosen:
        raise UsageError(
            f"no layer of the network matches lora.targets={pattern!r}; its layers are {', '.join(layers[:3])} and "
            f"{max(len(layers) - 3, 0)} more, give -o lora.targets=REGEX."
        )
    return chosen


def add_lora(network: nn.Module, options: LoraOptions) -> None:
    """Freezes the network and adds trainable factors to its target layers, B zero; in place."""
    try:
        from peft import LoraConfig, inject_adapter_in_model  # slow to import, and most runs need none of it
    except ModuleNotFoundError as error:
        raise GftzooError("LoRA is done by peft, which is not installed; run `pip install 'gftzoo[lora]'`.") from error

    names = target_layers(network, options.targets)
    alpha = options.alpha or options.rank
    # Whole names: peft takes the members of a list for the ends of names.
    wanted = "|".join(map(re.escape, names))
    inject_adapter_in_model(LoraConfig(r=options.rank, lora_alpha=alpha, target_modules=wanted), network, ADAPTER)


def is_factor(name: str) -> bool:
    """Whether a parameter or state-dict key is a factor of LoRA's."""
    return ".lora_" in name


def plain_name(name: str) -> str:
    """The name that a parameter has in the network without factors."""
    return name.replace(".base_layer.", ".")


@torch.no_grad()
def merged_state(network: nn.Module) -> dict[str, Tensor]:
    """The state dict of the network without factors that computes the same; one without factors gives its own."""
    found = {plain_name(key): value for key, value in network.state_dict().items() if not is_factor(key)}
    for name, module in network.named_modules():
        if hasattr(module, "get_delta_weight"):
            found[f"{name}.weight"] = found[f"{name}.weight"] + module.get_delta_weight(ADAPTER)
    return found
