"""What stands before the codes: the class token or the caption's tokens, and the temperature that is added to it.

Suffixes: B batch, T condition tokens, D width, F features of a caption token, W width of the sinusoid.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from timm.layers import Mlp
from torch import Tensor, nn

SINUSOID = 256


class ClassEmbedding(nn.Module):
    """Class indices (B,) to one token (B, 1, D); index `classes` is the null class."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, width)

    def forward(self, classes_B: Tensor) -> Tensor:
        return self.embedding_table(classes_B).unsqueeze(1)


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


class TemperatureEmbedding(nn.Module):
    """beta (B,) to a vector (B, D) that is added to the class token. thu-ml/GFT, LlamaGen/autoregressive/models/gpt.py.

    Args:
        width: D.
        scale: what the sinusoids multiply beta with; 1000 in the released code.
        dtype: of the sinusoid. The released code computes it in the type of its weights unless it is compiled; in
            bfloat16 that is a different function, on which the released 3B model was trained.
    """

    def __init__(self, width: int, scale: float = 1000.0, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.scale, self.dtype = scale, dtype
        self.mlp = nn.Sequential(nn.Linear(SINUSOID, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, beta_B: Tensor) -> Tensor:
        return self.mlp(sinusoid(self.scale * beta_B.to(self.dtype)).to(self.mlp[0].weight.dtype))


def sinusoid(value_B: Tensor) -> Tensor:
    """Cosines, then sines, at geometric frequencies from 1 down to 1/10000 (B, W), in the dtype of `value_B`."""
    half = SINUSOID // 2
    index_W = torch.arange(half, dtype=value_B.dtype, device=value_B.device)
    angle_BW = torch.outer(value_B, torch.exp(-math.log(10_000) * index_W / half))
    return torch.cat([angle_BW.cos(), angle_BW.sin()], 1)
