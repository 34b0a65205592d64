"""Layers of VAR: attention over what came before, and blocks steered by the condition.

Suffixes: B batch, L tokens, C width, H heads, D head width, M = all tokens that are attended to. Parameter names are
those of FoundationVision/VAR, models/basic_var.py.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend

from gftzoo.layers.compiling import hold_still
from gftzoo.layers.transformer import DropPath, Mlp

LOG_MAX_SCALE = math.log(100)


class Cache:
    """Keys and values (B, H, L, D) of one block's tokens, written in place, scale after scale.

    Args:
        shape: (B, H, L, D) with all scales' tokens.
        like: of the device; keys and values are of its type, or of autocast's.
    """

    def __init__(self, shape: tuple[int, int, int, int], like: Tensor) -> None:
        kind = like.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else like.dtype
        self.k_BHLD, self.v_BHLD = (torch.empty(shape, device=like.device, dtype=dtype) for _ in range(2))
        if like.is_cuda:
            hold_still(self.k_BHLD, self.v_BHLD)

    def extend(self, k_BHND: Tensor, v_BHND: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """Writes a scale's keys and values and returns all up to them."""
        self.k_BHLD[:, :, rows], self.v_BHLD[:, :, rows] = k_BHND, v_BHND
        return self.k_BHLD[:, :, : rows.stop], self.v_BHLD[:, :, : rows.stop]


class Attention(nn.Module):
    """Multi-head attention whose queries and keys have unit length and a learned scale a head (`l2`)."""

    zero_k_bias: Tensor

    def __init__(self, width: int, heads: int, l2: bool) -> None:
        super().__init__()
        self.heads, self.l2 = heads, l2
        self.softmax_scale = 1.0 if l2 else 0.25 / math.sqrt(width // heads)
        if l2:
            self.scale_mul_1H11 = nn.Parameter(torch.full((1, heads, 1, 1), math.log(4.0)))
        self.mat_qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("zero_k_bias", torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(self, x_BLC: Tensor, mask_11LL: Tensor | None, cache: Cache | None, rows: slice) -> Tensor:
        bias = torch.cat([self.q_bias, self.zero_k_bias, self.v_bias])
        qkv_BLC = self.mat_qkv(x_BLC) + bias
        q, k, v = qkv_BLC.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if self.l2:
            q = (F.normalize(q, dim=-1) * self.scale_mul_1H11.clamp_max(LOG_MAX_SCALE).exp()).to(v.dtype)
            k = F.normalize(k, dim=-1).to(v.dtype)
        if cache is not None:
            k, v = cache.extend(k, v, rows)
        mask = None if mask_11LL is None else mask_11LL.to(q.dtype)
        y_BHLD = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.softmax_scale)
        return self.proj(y_BHLD.transpose(1, 2).flatten(2))


def attention_backend(head_width: int, device: torch.device, dtype: torch.dtype, masked: bool) -> str:
    """Which of torch's kernels attention runs on, e.g. `flash attention`, for the current gradient mode."""
    q_BHLD = torch.zeros(1, 1, 8, head_width, device=device, dtype=dtype, requires_grad=torch.is_grad_enabled())
    mask = torch.zeros(1, 1, 8, 8, device=device, dtype=dtype) if masked else None
    choice = torch._fused_sdp_choice(q_BHLD, q_BHLD, q_BHLD, mask, 0.0, False, scale=1.0)
    return SDPBackend(choice).name.lower().replace("_", " ")


def modulation(width: int, parts: int) -> nn.Sequential:
    """The condition (B, C) to `parts` vectors (B, parts C)."""
    return nn.Sequential(nn.SiLU(), nn.Linear(width, parts * width))


class Block(nn.Module):
    """Attention and feed-forward, both scaled, shifted and gated by the condition.

    With `shared` the condition arrives as the six vectors (B, 1, 6, C) that all blocks share, and the block adds its
    own; otherwise it arrives as (B, C).
    """

    def __init__(self, width: int, heads: int, hidden: int, drop_path: float, l2: bool, shared: bool) -> None:
        super().__init__()
        self.attn = Attention(width, heads, l2)
        self.ffn = Mlp(width, hidden, act_layer=partial(nn.GELU, approximate="tanh"))
        self.drop_path = DropPath(drop_path)
        self.ln_wo_grad = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.shared = shared
        if shared:
            self.ada_gss = nn.Parameter(torch.randn(1, 1, 6, width) / width**0.5)
        else:
            self.ada_lin = modulation(width, 6)

    def forward(
        self, x_BLC: Tensor, condition: Tensor, mask_11LL: Tensor | None, cache: Cache | None, rows: slice
    ) -> Tensor:
        own = condition + self.ada_gss if self.shared else self.ada_lin(condition)[:, None].unflatten(-1, (6, -1))
        gamma1, gamma2, scale1, scale2, shift1, shift2 = own.unbind(2)  # the gates come first, unlike in DiT
        y_BLC = self.attn(self.ln_wo_grad(x_BLC) * (1 + scale1) + shift1, mask_11LL, cache, rows)
        x_BLC = x_BLC + self.drop_path(y_BLC * gamma1)
        y_BLC = self.ffn(self.ln_wo_grad(x_BLC) * (1 + scale2) + shift2)
        return x_BLC + self.drop_path(y_BLC * gamma2)


class HeadNorm(nn.Module):
    """The normalisation before the head, scaled and shifted by the condition (B, C)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln_wo_grad = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.ada_lin = modulation(width, 2)

    def forward(self, x_BLC: Tensor, condition_BC: Tensor) -> Tensor:
        scale, shift = self.ada_lin(condition_BC)[:, None].chunk(2, dim=-1)
        return self.ln_wo_grad(x_BLC) * (1 + scale) + shift
