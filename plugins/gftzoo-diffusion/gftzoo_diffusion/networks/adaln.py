"""Layers under adaptive layer norm, as DiT and its descendants have them; module names are the official ones.

Suffixes: B batch, T tokens, D width, F features.
"""

from __future__ import annotations

from torch import Tensor, nn

from gftzoo.layers.sinusoid import SINUSOID, sinusoid
from gftzoo.layers.transformer import Attention, Mlp


class TimestepEmbedder(nn.Module):
    """The timestep, with the temperature projected into its sinusoid where that is how beta enters (`cond_proj`)."""

    def __init__(self, width: int, with_beta: bool) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(SINUSOID, width), nn.SiLU(), nn.Linear(width, width))
        if with_beta:
            self.cond_proj = nn.Linear(2 * SINUSOID, SINUSOID, bias=False)

    def forward(self, t_B: Tensor, scaled_beta_B: Tensor | None = None) -> Tensor:
        features_BF = sinusoid(t_B.float())
        if scaled_beta_B is not None:
            features_BF = features_BF + self.cond_proj(sinusoid(scaled_beta_B, 2 * SINUSOID))
        return self.mlp(features_BF)


class LabelEmbedder(nn.Module):
    """Class embeddings; the last row is the null class. Labels are dropped by the objective, not here."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, width)

    def forward(self, y_B: Tensor) -> Tensor:
        return self.embedding_table(y_B)


def modulate(x_BTD: Tensor, shift_BD: Tensor, scale_BD: Tensor) -> Tensor:
    """Adaptive layer norm's shift and scale."""
    return x_BTD * (1 + scale_BD[:, None]) + shift_BD[:, None]


class DiTBlock(nn.Module):
    """Attention and MLP under adaLN-Zero."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attn: nn.Module = Attention(width, num_heads=heads, qkv_bias=True)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.mlp = Mlp(width, int(width * mlp_ratio), act_layer=lambda: nn.GELU(approximate="tanh"))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x_BTD: Tensor, c_BD: Tensor) -> Tensor:
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.adaLN_modulation(c_BD).chunk(6, dim=1)
        x_BTD = x_BTD + gate_a[:, None] * self.attn(modulate(self.norm1(x_BTD), shift_a, scale_a))
        return x_BTD + gate_m[:, None] * self.mlp(modulate(self.norm2(x_BTD), shift_m, scale_m))


class FinalNorm(nn.Module):
    """What the patches are read from: the hidden state, normed and modulated."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x_BTD: Tensor, c_BD: Tensor) -> Tensor:
        shift_BD, scale_BD = self.adaLN_modulation(c_BD).chunk(2, dim=1)
        return modulate(self.norm_final(x_BTD), shift_BD, scale_BD)


class FinalLayer(FinalNorm):
    """Tokens to features, which `linear` takes to patches."""

    def __init__(self, width: int, patch: int, channels: int) -> None:
        super().__init__(width)
        self.linear = nn.Linear(width, patch * patch * channels)
