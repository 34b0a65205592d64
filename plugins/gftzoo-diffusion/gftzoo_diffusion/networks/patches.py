"""Latents as sequences of patches. Suffixes: B batch, C channels, H W latent sides, T tokens, P numbers of a patch."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def unpatchify(x_BTP: Tensor, patch: int) -> Tensor:
    """(B, T, patch * patch * C), channel fastest, to (B, C, H, W)."""
    side, channels = math.isqrt(x_BTP.shape[1]), x_BTP.shape[2] // patch**2
    x_BhwpqC = x_BTP.view(-1, side, side, patch, patch, channels)
    return x_BhwpqC.permute(0, 5, 1, 3, 2, 4).reshape(-1, channels, side * patch, side * patch)


def sincos_positions(width: int, side: int) -> Tensor:
    """The fixed 2-D positions (1, side * side, D), rows first: D/2 features of the column, then D/2 of the row."""
    if torch.get_default_device().type == "meta":  # only looked at, and perhaps larger than any memory
        return torch.empty(1, side * side, width)
    quarter = width // 4
    frequencies = 10000.0 ** -(torch.arange(quarter, dtype=torch.float64) / quarter)
    angles_SQ = torch.arange(side, dtype=torch.float64)[:, None] * frequencies
    axis_SF = torch.cat([angles_SQ.sin(), angles_SQ.cos()], dim=1)
    column = axis_SF[None].expand(side, side, -1)
    row = axis_SF[:, None].expand(side, side, -1)
    return torch.cat([column, row], dim=2).reshape(1, side * side, width).float()
