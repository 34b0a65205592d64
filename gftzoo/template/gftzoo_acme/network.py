"""A residual convolutional network, modulated by time, class and temperature. CHANGE: put your own network here.

Suffixes: B batch, C channels, H W sides, D width, F features.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from gftzoo.layers.temperature import Prediction, Slope, TemperatureOptions, start_slope, with_slope

FREQUENCIES = 64


class NetworkOptions(TemperatureOptions):
    """Hyperparameters: `network:` of a card in registry.yaml, `-o network.width=128` on the command line.

    Those of the temperature are inherited: embedded, an affine read-out, or both.
    """

    depth: int = Field(4, gt=0, description="residual blocks")
    width: int = Field(48, gt=0, multiple_of=8, description="channels inside, a multiple of 8")


def sinusoid(values_B: Tensor) -> Tensor:
    """Features (B, F) of numbers in [0, 1]: cosines and sines at frequencies from 1000 down to 0.1."""
    exponents_F = torch.arange(FREQUENCIES // 2, device=values_B.device) / (FREQUENCIES // 2)
    angles_BF = 1000 * values_B.float()[:, None] * torch.exp(-math.log(10000) * exponents_F)
    return torch.cat([angles_BF.cos(), angles_BF.sin()], dim=1)


class Block(nn.Module):
    """Two convolutions around a shift and scale by the condition; does nothing at first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.modulation = nn.Linear(width, 2 * width)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        for parameter in self.second.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x_BDHW: Tensor, condition_BD: Tensor) -> Tensor:
        shift_BD11, scale_BD11 = self.modulation(condition_BD)[:, :, None, None].chunk(2, dim=1)
        hidden_BDHW = self.first(F.silu(self.norm(x_BDHW)))
        return x_BDHW + self.second(F.silu(hidden_BDHW * (1 + scale_BD11) + shift_BD11))


class Activated(nn.Module):
    """A norm and an activation, in front of a slope with blocks of its own."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x_BDHW: Tensor, active_BD: Tensor) -> Tensor:
        return F.silu(self.norm(x_BDHW))


class Network(nn.Module):
    """The velocity at a point between noise and image.

    Args:
        options: hyperparameters.
        channels: of the latents, or of the pixels.
        classes: without the null class, which is the index `classes`.
        temperature: whether there is a beta input, as networks trained with GFT have.
    """

    def __init__(self, options: NetworkOptions, channels: int, classes: int, temperature: bool) -> None:
        super().__init__()
        width = options.width
        self.enter = nn.Conv2d(channels, width, 3, padding=1)
        self.time = nn.Sequential(nn.Linear(FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(classes + 1, width)
        self.temperature = self.slope = None
        if temperature and options.embeds:
            self.temperature = nn.Sequential(nn.Linear(FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(Block(width) for _ in range(options.depth))
        self.norm = nn.GroupNorm(8, width)
        self.leave = nn.Conv2d(width, channels, 3, padding=1)
        if temperature and options.affine:  # a second read-out, and blocks of its own in front of it if asked for
            blocks = [Block(width) for _ in range(options.temperature_blocks)]
            self.slope = Slope(nn.Conv2d(width, channels, 3, padding=1), blocks, Activated(nn.GroupNorm(8, width)))
            start_slope(self)

    def forward(self, x_BCHW: Tensor, t_B: Tensor, label_B: Tensor, beta_B: Tensor | None = None) -> Prediction:
        """The velocity (B, C, H, W), or its two parts; `beta_B` None leaves an embedded temperature out."""
        condition_BD = self.time(sinusoid(t_B)) + self.label(label_B)
        if self.temperature is not None and beta_B is not None:
            condition_BD = condition_BD + self.temperature(sinusoid(beta_B))
        x_BDHW, active_BD = self.enter(x_BCHW), F.silu(condition_BD)
        for block in self.blocks:
            x_BDHW = block(x_BDHW, active_BD)
        features_BDHW = F.silu(self.norm(x_BDHW))
        return with_slope(self.slope, self.leave(features_BDHW), x_BDHW, features_BDHW, active_BD)
