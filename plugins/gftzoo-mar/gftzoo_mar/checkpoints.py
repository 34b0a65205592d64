"""Official MAR files: `checkpoint-last.pth` holds `model` and `model_ema`, both with the names this network has."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.layers.finetuning import fit_classes, idle_embedding

TEMPERATURE = "beta_embed"


def import_weights(card: ModelCard, tensors: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The state dict of an official file, fitted to the card.

    Another number of classes gets rows that start at the null condition. A card with a temperature gets an embedding
    that adds nothing yet.

    Args:
        card: `temperature` says whether there is a beta input.
        tensors: the file's state dict.
        network: a network of the card, which may be on the meta device; it tells the embedding's place and width.
    """
    fitted = fit_classes(tensors, card.classes, "class_emb.weight", "fake_latent")
    if card.temperature and not any(TEMPERATURE in key for key in fitted):
        for name, module in network.named_modules():
            if name.endswith(TEMPERATURE):
                fitted |= idle_embedding(f"{name}.", module.mlp[0].out_features)
    return fitted
