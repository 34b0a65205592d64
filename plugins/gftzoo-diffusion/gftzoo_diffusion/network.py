"""DiT, the diffusion transformer (Peebles & Xie, arXiv 2212.09748), with GFT's temperature input (arXiv 2501.15420).

Module names are those of the official state dict. Suffixes: B batch, C channels, H W latent sides, T tokens, D width.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor, nn

from gftzoo.layers.initialisation import xavier
from gftzoo.layers.sinusoid import SINUSOID, SinusoidEmbedding, sinusoid
from gftzoo.layers.temperature import (
    Prediction,
    ScaledTemperatureOptions,
    Slope,
    each,
    start_slope,
    with_slope,
    zero_layer,
)
from gftzoo.layers.transformer import Attention, Mlp, PatchEmbed

BetaEmbedding = Literal["linear", "mlp", "3-layer"]


class DiTNetwork(ScaledTemperatureOptions):
    """Hyperparameters of a DiT; sides, channels and classes follow from the card's tokenizer and data."""

    depth: int = Field(gt=0, description="transformer blocks")
    width: int = Field(gt=0, description="hidden size, a multiple of 4 and of the heads")
    heads: int = Field(gt=0, description="attention heads")
    patch: int = Field(2, gt=0, description="side of a patch in latent pixels")
    mlp_ratio: float = Field(4.0, gt=0, description="hidden size of the MLP over the width")
    learn_sigma: bool = Field(True, description="twice the output channels, the second half for the variance")
    beta_embedding: BetaEmbedding = Field(
        "linear", description="temperature input: a projection into the timestep's sinusoid, or an MLP of 2 or 3 layers"
    )
    gft_variance: Literal["learned", "fixed"] = Field(
        "fixed", description="under GFT: whether the variance channels are trained, or were and stay as they are"
    )

    @field_validator("heads")
    @classmethod
    def _heads_divide_the_width(cls, heads: int, info: ValidationInfo) -> int:
        width = info.data.get("width", heads)
        if width % heads or width % 4:
            raise ValueError(f"the width, {width}, must be a multiple of the heads and of 4")
        return heads


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
        self.attn = Attention(width, num_heads=heads, qkv_bias=True)
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


class DiT(nn.Module):
    """Noise (and variance) prediction of a noised latent.

    Args:
        network: hyperparameters.
        side: of the square latent, a multiple of the patch.
        channels: of the latent.
        classes: without the null class, which is the index `classes`.
        temperature: whether there is a beta input.
    """

    def __init__(self, network: DiTNetwork, side: int, channels: int, classes: int, temperature: bool) -> None:
        super().__init__()
        width, by_projection = network.width, network.beta_embedding == "linear"
        embeds, affine = temperature and network.embeds, temperature and network.affine
        self.patch, self.beta_scale = network.patch, network.beta_scale
        self.out_channels = channels * (2 if network.learn_sigma else 1)
        self.x_embedder = PatchEmbed(side, network.patch, channels, width, bias=True)
        self.t_embedder = TimestepEmbedder(width, with_beta=embeds and by_projection)
        if embeds and not by_projection:
            layers = {"mlp": 2, "3-layer": 3}[network.beta_embedding]
            self.beta_embedder = SinusoidEmbedding(width, network.beta_scale, layers=layers)
        self.y_embedder = LabelEmbedder(classes, width)
        positions = sincos_positions(width, side // network.patch)
        self.pos_embed = nn.Parameter(positions, requires_grad=False)
        self.blocks = nn.ModuleList(DiTBlock(width, network.heads, network.mlp_ratio) for _ in range(network.depth))
        self.final_layer = FinalLayer(width, network.patch, self.out_channels)
        self.slope: Slope | None = None
        if affine:
            block, norm = partial(DiTBlock, width, network.heads, network.mlp_ratio), partial(FinalNorm, width)
            self.slope = network.build_slope(width, network.patch**2 * self.out_channels, block, norm)
        self.initialise()

    def forward(self, x_BCHW: Tensor, t_B: Tensor, y_B: Tensor, beta_B: Tensor | None = None) -> Prediction:
        """The prediction (B, C or 2C, H, W) at timesteps 0..999; `beta_B` None leaves the embedded temperature out."""
        x_BTD = self.x_embedder(x_BCHW) + self.pos_embed
        c_BD = self.condition(t_B, y_B, beta_B)
        for block in self.blocks:
            x_BTD = block(x_BTD, c_BD)
        return each(self.read_out(x_BTD, c_BD), self.unpatchify)

    def read_out(self, x_BTD: Tensor, c_BD: Tensor) -> Prediction:
        """Patches (B, T, patch * patch * C) of the last hidden state; two of them where the temperature is affine."""
        features_BTD = self.final_layer(x_BTD, c_BD)
        return with_slope(self.slope, self.final_layer.linear(features_BTD), x_BTD, features_BTD, c_BD)

    def condition(self, t_B: Tensor, y_B: Tensor, beta_B: Tensor | None) -> Tensor:
        """Timestep, class and temperature as one vector (B, D)."""
        if beta_B is not None and hasattr(self, "beta_embedder"):
            return self.t_embedder(t_B) + self.y_embedder(y_B) + self.beta_embedder(beta_B)
        projected = hasattr(self.t_embedder, "cond_proj")
        scaled_beta_B = self.beta_scale * beta_B.float() if beta_B is not None and projected else None
        return self.t_embedder(t_B, scaled_beta_B) + self.y_embedder(y_B)

    def unpatchify(self, x_BTP: Tensor) -> Tensor:
        """(B, T, patch * patch * C), channel fastest, to (B, C, H, W)."""
        side, p = math.isqrt(x_BTP.shape[1]), self.patch
        x_BhwpqC = x_BTP.view(-1, side, side, p, p, self.out_channels)
        return x_BhwpqC.permute(0, 5, 1, 3, 2, 4).reshape(-1, self.out_channels, side * p, side * p)

    def initialise(self) -> None:
        """As the official code does; the temperature input as GFT does from scratch."""
        xavier(self)
        nn.init.xavier_uniform_(self.x_embedder.proj.weight.view(self.x_embedder.proj.out_channels, -1))
        nn.init.zeros_(self.x_embedder.proj.bias)
        small: list[Any] = [self.y_embedder.embedding_table, self.t_embedder.mlp[0], self.t_embedder.mlp[2]]
        small += [self.t_embedder.cond_proj] if hasattr(self.t_embedder, "cond_proj") else []
        small += [self.beta_embedder.mlp[-1]] if hasattr(self, "beta_embedder") else []
        for module in small:
            nn.init.normal_(module.weight, std=0.02)
        for module in self.modules():
            if isinstance(module, DiTBlock | FinalNorm):
                zero_layer(module.adaLN_modulation[1])
        zero_layer(self.final_layer.linear)
        start_slope(self)


def sincos_positions(width: int, side: int) -> Tensor:
    """The fixed 2-D positions (1, side * side, D), rows first: D/2 features of the column, then D/2 of the row."""
    quarter = width // 4
    frequencies = 10000.0 ** -(torch.arange(quarter, dtype=torch.float64) / quarter)
    angles_SQ = torch.arange(side, dtype=torch.float64)[:, None] * frequencies
    axis_SF = torch.cat([angles_SQ.sin(), angles_SQ.cos()], dim=1)
    column = axis_SF[None].expand(side, side, -1)
    row = axis_SF[:, None].expand(side, side, -1)
    return torch.cat([column, row], dim=2).reshape(1, side * side, width).float()
