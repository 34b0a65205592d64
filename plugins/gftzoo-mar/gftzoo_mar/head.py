"""The diffusion head: an MLP that denoises one token given the backbone's vector for it.

Suffixes: X any leading dimensions, C channels of a token, W width of the backbone, H width of the head.
"Autoregressive Image Generation without Vector Quantization" (arXiv 2406.11838), section 3; module names are those of
LTH14/mar, models/diffloss.py, so that its state dict loads as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gftzoo.layers.diffusion import STEPS
from gftzoo.layers.initialisation import xavier
from gftzoo.layers.sinusoid import SinusoidEmbedding
from gftzoo.layers.temperature import Prediction, Slope, start_slope, with_slope, zero_layer

BETA_SCALE = 1000.0  # what the temperature's sinusoids multiply beta with


class ResBlock(nn.Module):
    """A residual MLP, modulated by the condition (AdaLN)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_ln = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 3 * width))

    def forward(self, x_XH: Tensor, active_XH: Tensor) -> Tensor:
        shift_XH, scale_XH, gate_XH = self.adaLN_modulation[1](active_XH).chunk(3, -1)
        return torch.addcmul(x_XH, gate_XH, self.mlp(torch.addcmul(shift_XH, self.in_ln(x_XH), 1 + scale_XH)))


class FinalNorm(nn.Module):
    """What noise and variance are read from: the hidden state, normed and modulated."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x_XH: Tensor, active_XH: Tensor) -> Tensor:
        shift_XH, scale_XH = self.adaLN_modulation[1](active_XH).chunk(2, -1)
        return torch.addcmul(shift_XH, self.norm_final(x_XH), 1 + scale_XH)


class FinalLayer(FinalNorm):
    """Tokens to features, which `linear` takes to noise and variance."""

    def __init__(self, width: int, out_channels: int) -> None:
        super().__init__(width)
        self.linear = nn.Linear(width, out_channels)


class HeadMLP(nn.Module):
    """Noise and variance share (X, 2C) of noisy tokens (X, C)."""

    def __init__(self, channels: int, condition_width: int, width: int, depth: int, temperature: bool) -> None:
        super().__init__()
        self.time_embed = SinusoidEmbedding(width)
        self.cond_embed = nn.Linear(condition_width, width)
        self.input_proj = nn.Linear(channels, width)
        self.res_blocks = nn.ModuleList(ResBlock(width) for _ in range(depth))
        self.final_layer = FinalLayer(width, 2 * channels)
        self.beta_embed = SinusoidEmbedding(width, BETA_SCALE) if temperature else None
        self.slope: Slope | None = None  # of an affine temperature

    def initialise(self) -> None:
        """Xavier for the linear layers, small timestep embedding, identity blocks and a zero output."""
        xavier(self)
        small = [self.time_embed, self.beta_embed] if self.beta_embed else [self.time_embed]
        for embedding in small:
            for layer in embedding.layers:
                nn.init.normal_(layer.weight, std=0.02)
        for module in self.modules():
            if isinstance(module, ResBlock | FinalNorm):
                zero_layer(module.adaLN_modulation[1])
        zero_layer(self.final_layer.linear)
        start_slope(self)

    def embed_time(self, t_X: Tensor) -> Tensor:
        """The embedding (X, H) of integer timesteps; each of the 1000 is computed once where there are more tokens."""
        if t_X.numel() <= STEPS:
            return self.time_embed(t_X)
        return F.embedding(t_X, self.time_embed(torch.arange(STEPS, device=t_X.device)))

    def embed_condition(self, z_XW: Tensor, beta_X: Tensor | None = None) -> Tensor:
        """What a token's denoising keeps over all its timesteps, (X, H)."""
        condition_XH = self.cond_embed(z_XW)
        if self.beta_embed is not None and beta_X is not None:
            condition_XH = condition_XH + self.beta_embed(beta_X)
        return condition_XH

    def denoise(self, x_XC: Tensor, y_XH: Tensor) -> Prediction:
        """Noise and variance share (X, 2C), given the sum of timestep and condition embedding.

        Two of them where the temperature is affine.
        """
        x_XH = self.input_proj(x_XC)
        active_XH = F.silu(y_XH)  # every block starts with this activation of the same vector
        for block in self.res_blocks:
            x_XH = block(x_XH, active_XH)
        features_XH = self.final_layer(x_XH, active_XH)
        return with_slope(self.slope, self.final_layer.linear(features_XH), x_XH, features_XH, active_XH)

    def forward(self, x_XC: Tensor, t_X: Tensor, z_XW: Tensor, beta_X: Tensor | None = None) -> Prediction:
        return self.denoise(x_XC, self.embed_time(t_X) + self.embed_condition(z_XW, beta_X))


class DiffusionHead(nn.Module):
    """The head under its official name, `diffloss.net`."""

    def __init__(self, channels: int, condition_width: int, width: int, depth: int, temperature: bool) -> None:
        super().__init__()
        self.net = HeadMLP(channels, condition_width, width, depth, temperature)
