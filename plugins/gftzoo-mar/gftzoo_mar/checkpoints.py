"""Official MAR files: `checkpoint-last.pth` holds `model` and `model_ema`, both with the names this network has."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gftzoo.zoo import ModelCard

TEMPERATURE = "beta_embed."
CLASSES = "class_emb.weight"


def import_weights(card: ModelCard, tensors: Mapping[str, Tensor], network: nn.Module) -> Mapping[str, Tensor]:
    """The state dict of an official file, fitted to the card.

    Another number of classes gets rows that start at the null condition. A card with a temperature gets an embedding
    that adds nothing yet.

    Args:
        card: `temperature` says whether there is a beta input.
        tensors: the file's state dict.
        network: a network of the card, which may be on the meta device; it tells the embedding's shapes. Its first
            layer is drawn from N(0, 0.02), the last is zero: fine-tuning starts from the base model at every beta.
    """
    table, null = tensors.get(CLASSES), tensors.get("fake_latent")
    if table is not None and null is not None and len(table) != card.classes:
        tensors = {**tensors, CLASSES: null.expand(card.classes, -1).clone()}
    if not card.temperature or any(TEMPERATURE in key for key in tensors):
        return tensors
    added = {key: torch.zeros(value.shape) for key, value in network.state_dict().items() if TEMPERATURE in key}
    for key, value in added.items():
        if key.endswith("mlp.0.weight"):
            nn.init.normal_(value, std=0.02)
    return {**tensors, **added}
