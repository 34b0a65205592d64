"""The block of GPT-2, as minGPT writes it; the names of modules are those of the official files.

Suffixes: B batch, L positions, D width. CompVis/taming-transformers, modules/transformer/mingpt.py;
kakaobrain/rq-vae-transformer, models/rqtransformer/attentions.py.
"""

from __future__ import annotations

from torch import Tensor, nn

from gftzoo.layers.decoding import Past, attend


class Attention(nn.Module):
    """Causal self-attention, over the sequence or over a cache."""

    def __init__(self, width: int, heads: int, dropout: float, attention_dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.attention_dropout = heads, attention_dropout
        self.key, self.query, self.value, self.proj = (nn.Linear(width, width) for _ in range(4))
        self.resid_drop = nn.Dropout(dropout)

    def forward(self, x_BLD: Tensor, past: Past | None = None) -> Tensor:
        q, k, v = (
            project(x_BLD).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        y_BLD = attend(q, k, v, None, past, self.attention_dropout if self.training else 0.0)
        return self.resid_drop(self.proj(y_BLD))


class Block(nn.Module):
    """Attention and feed-forward, each normalised before and added after."""

    def __init__(self, width: int, heads: int, dropout: float, attention_dropout: float = 0.0) -> None:
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, heads, dropout, attention_dropout)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(dropout)
        )

    def forward(self, x_BLD: Tensor, past: Past | None = None) -> Tensor:
        x_BLD = x_BLD + self.attn(self.ln1(x_BLD), past)
        return x_BLD + self.mlp(self.ln2(x_BLD))
