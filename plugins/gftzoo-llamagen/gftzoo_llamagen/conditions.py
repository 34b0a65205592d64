"""A caption's tokens, which stand before the codes.

Suffixes: B batch, T condition tokens, D width, F features of a caption token.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from gftzoo.layers.transformer import Mlp


class CaptionEmbedding(nn.Module):
    """Text features (B, T, F) to tokens (B, T, D). A row of zeros is padding, which stands on the left."""

    uncond_embedding: Tensor

    def __init__(self, tokens: int, features: int, width: int) -> None:
        super().__init__()
        gelu = partial(nn.GELU, approximate="tanh")
        self.cap_proj = Mlp(features, width, width, act_layer=gelu, bias=False)
        self.register_buffer("uncond_embedding", torch.randn(tokens, features) / features**0.5)

    def forward(self, features_BTF: Tensor) -> Tensor:
        return self.cap_proj(features_BTF.to(self.cap_proj.fc1.weight.dtype))

    def null(self, features_BTF: Tensor) -> Tensor:
        """The null caption where the caption has a token; padding stays padding (B, T, F)."""
        return self.uncond_embedding.type_as(features_BTF) * present(features_BTF).unsqueeze(-1)


def present(features_BTF: Tensor) -> Tensor:
    """Which tokens are no padding (B, T)."""
    return features_BTF.ne(0).any(-1)
