"""What official weights lack for a card, started so that fine-tuning begins at the base model.

Suffixes: K rows of a class table, D width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gftzoo.layers.sinusoid import SINUSOID


def fit_classes(tensors: Mapping[str, Tensor], rows: int, table: str, null: str) -> dict[str, Tensor]:
    """The tensors with a class table of `rows` rows: where it has others, all become the null condition.

    Args:
        tensors: a state dict, which may lack the table.
        rows: K, that the card asks for.
        table: key of the class table (K, D).
        null: key of the tensor whose last row is the null condition; often the table itself.
    """
    fitted = dict(tensors)
    if table in fitted and null in fitted and len(fitted[table]) != rows:
        fitted[table] = fitted[null][-1:].expand(rows, -1).clone()
    return fitted


def idle_embedding(prefix: str, width: int) -> dict[str, Tensor]:
    """A `SinusoidEmbedding` of two layers that adds nothing yet: the first is N(0, 0.02), the last zero."""
    return {
        f"{prefix}mlp.0.weight": torch.randn(width, SINUSOID) * 0.02,
        f"{prefix}mlp.0.bias": torch.zeros(width),
        f"{prefix}mlp.2.weight": torch.zeros(width, width),
        f"{prefix}mlp.2.bias": torch.zeros(width),
    }
