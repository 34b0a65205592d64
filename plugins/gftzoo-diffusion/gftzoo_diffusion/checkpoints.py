"""Official DiT and released GFT weights: their keys are ours, what a card changes is filled in."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo_diffusion.network import DiTNetwork, sincos_positions


def fit_positions(card: ModelCard, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with positions for the card's resolution, where the file's are another's."""
    network = card.network_options(DiTNetwork)
    side = card.grid // network.patch
    if "pos_embed" in tensors and tensors["pos_embed"].shape[1] != side * side:
        tensors["pos_embed"] = sincos_positions(network.width, side)
    return tensors


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
