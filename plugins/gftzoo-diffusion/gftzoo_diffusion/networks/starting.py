"""A temperature input that does nothing yet, for weights without one."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def idle_temperature(name: str, embedding: nn.Module) -> dict[str, Tensor]:
    """Tensors of a temperature input without effect: its last layer is zero, the others are as the code starts them."""
    if isinstance(embedding, nn.Linear):
        return {f"{name}.weight": torch.zeros(embedding.weight.shape)}
    tensors: dict[str, Tensor] = {}
    for layer, module in embedding.named_modules():
        if isinstance(module, nn.Linear):
            last = f"{name}.{layer}"
            tensors[f"{last}.weight"] = nn.init.xavier_uniform_(torch.empty(module.weight.shape))
            tensors[f"{last}.bias"] = torch.zeros(module.bias.shape)
    tensors[f"{last}.weight"].zero_()
    return tensors
