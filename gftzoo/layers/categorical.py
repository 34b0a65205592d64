"""Logits of codes: draws from them, and how likely codes are under them.

Suffixes: X any dimensions (images, positions), V codebook.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def nats(logits_XV: Tensor, codes_X: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """-log p (X,) of the codes, int64: the cross-entropy on rows, whose kernel reads memory in order."""
    rows, codes = logits_XV.reshape(-1, logits_XV.shape[-1]), codes_X.reshape(-1)
    return F.cross_entropy(rows, codes, reduction="none", label_smoothing=label_smoothing).view_as(codes_X)


def draw(logits_XV: Tensor, uniform_X: Tensor) -> Tensor:
    """One code (X,), int64, for each row, by the inverse of its cumulative distribution at `uniform_X` in [0, 1).

    A code depends on its own logits and number only.
    """
    mass_XV = logits_XV.double().softmax(-1).cumsum(-1)
    target_X1 = uniform_X.double().unsqueeze(-1) * mass_XV[..., -1:]
    return torch.searchsorted(mass_XV, target_X1, right=True).squeeze(-1)


def keep_likely(logits_XV: Tensor, top_k: int, top_p: float) -> Tensor:
    """-inf for all but the `top_k` largest (0: all), then for the least likely that make up 1 - `top_p`."""
    if 0 < top_k < logits_XV.shape[-1]:
        least_X1 = logits_XV.topk(top_k).values[..., -1:]
        logits_XV = logits_XV.masked_fill(logits_XV < least_X1, -torch.inf)
    if top_p < 1:
        rising_XV, order_XV = logits_XV.sort(dim=-1)
        surplus_XV = rising_XV.softmax(-1).cumsum(-1) <= 1 - top_p
        surplus_XV[..., -1] = False  # the most likely stays
        surplus_XV = torch.zeros_like(surplus_XV).scatter(-1, order_XV, surplus_XV)
        logits_XV = logits_XV.masked_fill(surplus_XV, -torch.inf)
    return logits_XV
