"""What official weights lack for a card, started so that fine-tuning begins at the base model.

Suffixes: K rows of a class table, D width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def fit_classes(
    tensors: Mapping[str, Tensor], rows: int, table: str, null: str | None = None, first: int = 0
) -> dict[str, Tensor]:
    """The tensors with a class table of `rows` rows: where it has others, all become the null condition.

    Args:
        tensors: a state dict, which may lack the table.
        rows: K, that the card asks for.
        table: key of the class table (K, D).
        null: key of the tensor whose last row is the null condition; None is the table itself.
        first: row of the first class; those before it are no classes and stay.
    """
    fitted, null = dict(tensors), null or table
    if table in fitted and null in fitted and len(fitted[table]) != rows:
        fitted[table] = torch.cat([fitted[table][:first], fitted[null][-1:].expand(rows - first, -1)])
    return fitted


def append_null(tensors: Mapping[str, Tensor], table: str, rows: int, classes: int) -> dict[str, Tensor]:
    """The tensors with a null condition behind a table that has none: the mean of its first rows, the classes.

    Args:
        tensors: a state dict.
        table: key of the table.
        rows: of a table without a null condition; one of others stays.
        classes: how many they are.
    """
    fitted = dict(tensors)
    if table in fitted and len(fitted[table]) == rows:
        null_1D = fitted[table][:classes].float().mean(0, keepdim=True).type_as(fitted[table])
        fitted[table] = torch.cat([fitted[table], null_1D])
    return fitted


def idle_embedding(name: str, embedding: nn.Module) -> dict[str, Tensor]:
    """Tensors of a `SinusoidEmbedding` of two layers that adds nothing yet: the first is N(0, 0.02), the last zero.

    Args:
        name: of the module in its network.
        embedding: the module, whose tensors may be on the meta device.
    """
    width, features = embedding.get_parameter("mlp.0.weight").shape
    return {
        f"{name}.mlp.0.weight": torch.randn(width, features) * 0.02,
        f"{name}.mlp.0.bias": torch.zeros(width),
        f"{name}.mlp.2.weight": torch.zeros(width, width),
        f"{name}.mlp.2.bias": torch.zeros(width),
    }
