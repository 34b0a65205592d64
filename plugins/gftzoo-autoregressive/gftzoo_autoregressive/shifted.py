"""The block of ViT-VQGAN's public second stage: attention over a mixture of each position and the one before it.

Suffixes: B batch, L positions, D width. thuanz123/enhancing-transformers, modules/stage2/layers.py. Its sampler loses
the position before: one code at a time, it shifts in zeros, and draws from other logits than those that were trained.
Here the position before is remembered.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gftzoo.layers.decoding import Past
from gftzoo_autoregressive.layers import Attention


class ShiftedAttention(Attention):
    """Attention whose input is m x + (1 - m) y, of each position x and the one before it y, with learned m (D)."""

    def __init__(self, width: int, heads: int, dropout: float, attention_dropout: float) -> None:
        super().__init__(width, heads, dropout, attention_dropout)
        meta = torch.get_default_device().type == "meta"  # only looked at, and perhaps larger than any memory
        shares = torch.empty(width) if meta else torch.arange(width) / max(width - 1, 1)
        self.time_mix = nn.Parameter(shares.view(1, 1, -1))

    def mix(self, x_BLD: Tensor, before_B1D: Tensor | None) -> Tensor:
        """The mixture; `before_B1D` stands before the first position, zeros if it is None, and becomes the last."""
        first_B1D = torch.zeros_like(x_BLD[:, :1]) if before_B1D is None else before_B1D.type_as(x_BLD).clone()
        shifted_BLD = torch.cat([first_B1D, x_BLD[:, :-1]], 1)
        if before_B1D is not None:
            before_B1D.copy_(x_BLD[:, -1:])
        return x_BLD * self.time_mix + shifted_BLD * (1 - self.time_mix)


class FeedForward(nn.Module):
    """Two layers with a squared rectifier."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.p0, self.p1 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.p1(F.relu(self.p0(x)).square())


class ShiftedBlock(nn.Module):
    """Attention and feed-forward, each normalised before and added after."""

    def __init__(self, width: int, heads: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = ShiftedAttention(width, heads, dropout, attention_dropout)
        self.mlp = FeedForward(width)

    def forward(self, x_BLD: Tensor, past: Past | None = None, before_B1D: Tensor | None = None) -> Tensor:
        x_BLD = x_BLD + self.attn(self.attn.mix(self.ln1(x_BLD), before_B1D), past)
        return x_BLD + self.mlp(self.ln2(x_BLD))
