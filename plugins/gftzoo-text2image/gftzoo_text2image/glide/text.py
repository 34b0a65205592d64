"""GLIDE's text transformer, under the names of the official code (openai/glide-text2im, text2im_model.py and xf.py).

Suffixes: B batch, T tokens, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TextTransformer(nn.Module):
    """Tokens to features (B, T, D), and to a vector (B, `out`) read at the last position.

    Padding replaces a position, and does not mask it: every position attends to every other.
    """

    def __init__(self, vocabulary: int, tokens: int, width: int, layers: int, heads: int, out: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(tokens, width))
        self.padding_embedding = nn.Parameter(0.01 * torch.randn(tokens, width))
        self.transformer = nn.ModuleDict({"resblocks": nn.ModuleList(Block(width, heads) for _ in range(layers))})
        self.final_ln = nn.LayerNorm(width)
        self.transformer_proj = nn.Linear(width, out)
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def forward(self, tokens_BT: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Features and vector of token numbers; where the boolean mask is false there is padding."""
        x_BTD = self.token_embedding(tokens_BT) + self.positional_embedding
        x_BTD = torch.where(mask_BT[..., None], x_BTD, self.padding_embedding)
        for block in self.transformer["resblocks"].children():
            x_BTD = block(x_BTD)
        x_BTD = self.final_ln(x_BTD)
        return x_BTD, self.transformer_proj(x_BTD[:, -1])


class Block(nn.Module):
    """Attention and MLP behind a norm each; in the attention's one matrix q, k and v of a head lie together."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.ModuleDict({"c_qkv": nn.Linear(width, 3 * width), "c_proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

    def forward(self, x_BTD: Tensor) -> Tensor:
        """The features (B, T, D) behind the block."""
        qkv = self.attn["c_qkv"](self.ln_1(x_BTD)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        attended = F.scaled_dot_product_attention(*qkv.chunk(3, -1))
        x_BTD = x_BTD + self.attn["c_proj"](attended.transpose(1, 2).flatten(2))
        return x_BTD + self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x_BTD))))
