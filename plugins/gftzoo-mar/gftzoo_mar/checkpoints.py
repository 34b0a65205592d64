"""Official MAR files: `checkpoint-last.pth` holds `model` and `model_ema`, both with the names this network has."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gftzoo.zoo import ModelCard

TEMPERATURE = "beta_embed."


def import_weights(card: ModelCard, tensors: Mapping[str, Tensor], network: nn.Module) -> Mapping[str, Tensor]:
    """The state dict of an official file, with a temperature embedding that adds nothing where the card wants one.

    Args:
        card: `temperature` says whether there is a beta input.
        tensors: the file's state dict.
        network: a network of the card, which may be on the meta device; it tells the embedding's shapes. Its first
            layer is drawn from N(0, 0.02), the last is zero: fine-tuning starts from the base model at every beta.
    """
    if not card.temperature or any(TEMPERATURE in key for key in tensors):
        return tensors
    added = {key: torch.zeros(value.shape) for key, value in network.state_dict().items() if TEMPERATURE in key}
    for key, value in added.items():
        if key.endswith("mlp.0.weight"):
            nn.init.normal_(value, std=0.02)
    return {**tensors, **added}
