"""The look-up of code vectors, for tokenizers that give codes.

Suffixes: B batch, N positions, E width of a code vector, V codebook.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def distances(z_BNE: Tensor, codes_VE: Tensor) -> Tensor:
    """The squared distance of each position to each code vector (B, N, V), float64."""
    z_BNE, codes_VE = z_BNE.double(), codes_VE.double()
    products_BNV = F.linear(z_BNE, codes_VE)
    return z_BNE.square().sum(-1, keepdim=True) + codes_VE.square().sum(-1) - 2 * products_BNV


def nearest(z_BNE: Tensor, codes_VE: Tensor) -> Tensor:
    """The index of the code vector nearest to each position (B, N), int64.

    It maximises z c - c^2 / 2, in float64: neither autocast nor TF32 rounds that, as they would float32, where rounding
    changes codes.
    """
    codes_VE = codes_VE.double()
    return F.linear(z_BNE.double(), codes_VE, codes_VE.square().sum(-1) / -2).argmax(-1)
