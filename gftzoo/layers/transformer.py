"""The layers of a vision transformer, with the names and the initialisation of timm's, whose import takes seconds.

Weights of a network on timm's layers fit, and give the same numbers to the bit. Suffixes: B batch, C channels, H W
sides, N tokens, D width, X any dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F


class Mlp(nn.Module):
    """Two linear layers (B, N, D) to (B, N, D'); timm.layers.Mlp."""

    def __init__(
        self,
        in_features: int,
        hidden_features: int | None = None,
        out_features: int | None = None,
        act_layer: Callable[[], nn.Module] = nn.GELU,
        bias: bool = True,
        drop: float | tuple[float, float] = 0.0,
    ) -> None:
        super().__init__()
        hidden = hidden_features or in_features
        behind_first, behind_second = drop if isinstance(drop, tuple) else (drop, drop)
        self.fc1 = nn.Linear(in_features, hidden, bias=bias)
        self.act = act_layer()
        self.drop1 = nn.Dropout(behind_first)
        self.fc2 = nn.Linear(hidden, out_features or in_features, bias=bias)
        self.drop2 = nn.Dropout(behind_second)

    def forward(self, x_BND: Tensor) -> Tensor:
        found: Tensor = self.drop2(self.fc2(self.drop1(self.act(self.fc1(x_BND)))))
        return found


class Attention(nn.Module):
    """Self-attention of `num_heads` heads; timm.layers.Attention, without its norms and gates."""

    def __init__(
        self, dim: int, num_heads: int = 8, qkv_bias: bool = False, attn_drop: float = 0.0, proj_drop: float = 0.0
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x_BND: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        batch, tokens, width = x_BND.shape
        qkv = self.qkv(x_BND).view(batch, tokens, 3, self.num_heads, width // self.num_heads)
        q, k, v = (each.transpose(1, 2) for each in qkv.unbind(2))  # whose gradients need no copy to be put together
        dropout = self.attn_drop.p if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask, dropout_p=dropout)
        found: Tensor = self.proj_drop(self.proj(mixed.transpose(1, 2).reshape(batch, tokens, width)))
        return found


class Block(nn.Module):
    """Attention and MLP, normed before and added; timm's Block of a vision transformer."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = False,
        proj_drop: float = 0.0,
        attn_drop: float = 0.0,
        norm_layer: Callable[[int], nn.Module] = nn.LayerNorm,
    ) -> None:
        super().__init__()
        self.norm1 = norm_layer(dim)
        self.attn = Attention(dim, num_heads, qkv_bias, attn_drop, proj_drop)
        self.norm2 = norm_layer(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), drop=proj_drop)

    def forward(self, x_BND: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        x_BND = x_BND + self.attn(self.norm1(x_BND), attn_mask)
        return x_BND + self.mlp(self.norm2(x_BND))


class PatchEmbed(nn.Module):
    """A square picture (B, C, H, W) to the tokens of its patches (B, N, D); timm.layers.PatchEmbed."""

    proj: Any  # torch says of every convolution that it may have no bias

    def __init__(self, img_size: int, patch_size: int, in_chans: int, embed_dim: int, bias: bool = True) -> None:
        super().__init__()
        self.num_patches = (img_size // patch_size) ** 2
        self.proj = nn.Conv2d(in_chans, embed_dim, kernel_size=patch_size, stride=patch_size, bias=bias)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        # In the order of the tokens: every norm and sum behind it would copy what lies otherwise, or read it in leaps.
        found: Tensor = self.proj(x_BCHW).flatten(2).transpose(1, 2).contiguous()
        return found


class DropPath(nn.Module):
    """Leaves a residual branch (B, X) out for a share of the samples in training; timm.layers.DropPath."""

    def __init__(self, drop_prob: float = 0.0) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x_BX: Tensor) -> Tensor:
        if self.drop_prob == 0.0 or not self.training:
            return x_BX
        kept_B = x_BX.new_empty(len(x_BX), *[1] * (x_BX.ndim - 1)).bernoulli_(1 - self.drop_prob)
        if self.drop_prob < 1:
            kept_B.div_(1 - self.drop_prob)
        return x_BX * kept_B
