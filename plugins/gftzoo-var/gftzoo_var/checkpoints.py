"""Official VAR weights: their keys, buffers included, are ours; what a card changes is filled in."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gftzoo.zoo import ModelCard
from gftzoo_var.layers import SINUSOID

LABELS = "class_emb.weight"
TEMPERATURE = "beta_embed.mlp."


def fit_weights(card: ModelCard, tensors: Mapping[str, Tensor], width: int) -> dict[str, Tensor]:
    """The file's tensors for the network of `card`.

    Base weights for a card with a temperature get its fine-tune initialisation (the last layer zero, so that the
    network starts as the base model); another number of classes gets rows that start at the null class, which is kept.
    """
    fitted = dict(tensors)
    if card.temperature and not any(key.startswith(TEMPERATURE) for key in fitted):
        fitted |= new_temperature_input(width)
    table = fitted.get(LABELS)
    if table is not None and len(table) != card.classes + 1:
        fitted[LABELS] = table[-1:].expand(card.classes + 1, -1).clone()
    return fitted


def new_temperature_input(width: int) -> dict[str, Tensor]:
    """A temperature input without effect: its last layer is zero."""
    return {
        f"{TEMPERATURE}0.weight": torch.randn(width, SINUSOID) * 0.02,
        f"{TEMPERATURE}0.bias": torch.zeros(width),
        f"{TEMPERATURE}2.weight": torch.zeros(width, width),
        f"{TEMPERATURE}2.bias": torch.zeros(width),
    }
