"""Official LlamaGen and released GFT weights: their keys are ours, but for what sampling leaves in a file."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from gftzoo.catalogue.cards import ModelCard
from gftzoo.layers.finetuning import fit_classes, idle_embedding
from gftzoo_llamagen.network import NetworkOptions

LABELS = "cls_embedding.embedding_table.weight"
TEMPERATURE = "t_embedder."


def fit_weights(card: ModelCard, tensors: Mapping[str, Tensor], options: NetworkOptions) -> dict[str, Tensor]:
    """The file's tensors for the network of `card`.

    Tables of positions and filled caches are left out. Base weights for a card with a temperature get its fine-tune
    initialisation (the last layer zero, so that the network starts as the base model); another number of classes gets
    rows that start at the null class, which is kept.
    """
    fitted = {key: value for key, value in tensors.items() if not left_by_sampling(key)}
    if card.temperature and options.embeds and not any(key.startswith(TEMPERATURE) for key in fitted):
        fitted |= idle_embedding(TEMPERATURE, options.width)
    return fit_classes(fitted, card.classes + 1, LABELS, LABELS)


def left_by_sampling(key: str) -> bool:
    """Whether a tensor is no weight: the table of rotary positions, masks, cached keys and values."""
    return key in ("freqs_cis", "causal_mask") or ".kv_cache." in key
