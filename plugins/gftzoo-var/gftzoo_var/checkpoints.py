"""Official VAR weights: their keys, buffers included, are ours; what a card changes is filled in."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from gftzoo.catalogue.cards import ModelCard
from gftzoo.layers.finetuning import fit_classes, idle_embedding
from gftzoo_var.network import NetworkOptions

LABELS = "class_emb.weight"
TEMPERATURE = "beta_embed."


def fit_weights(card: ModelCard, tensors: Mapping[str, Tensor], options: NetworkOptions) -> dict[str, Tensor]:
    """The file's tensors for the network of `card`.

    Base weights for a card with a temperature get its fine-tune initialisation (the last layer zero, so that the
    network starts as the base model); another number of classes gets rows that start at the null class, which is kept.
    """
    fitted = dict(tensors)
    if card.temperature and options.embeds and not any(key.startswith(TEMPERATURE) for key in fitted):
        fitted |= idle_embedding(TEMPERATURE, options.width)
    return fit_classes(fitted, card.classes + 1, LABELS, LABELS)
