"""diffusers' UNet as gftzoo's network, and the temperature embedding of the released GFT code.

Suffixes: B batch, E width of the temperature's sinusoid.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from pydantic import Field, model_validator
from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.errors import UsageError
from gftzoo.layers.temperature import Affine, Prediction, Slope, TemperatureOptions, start_slope, strength


class SDNetwork(TemperatureOptions):
    """Options of the UNet; the defaults are Stable Diffusion 1.5's."""

    channels: tuple[int, ...] = Field((320, 640, 1280, 1280), description="per level, finest first")
    attention: tuple[bool, ...] = Field((True, True, True, False), description="whether a level attends to the prompt")
    layers: int = Field(2, gt=0, description="residual blocks per level; one more on the way up")
    heads: int = Field(8, gt=0, description="attention heads of every level")
    text_width: int = Field(768, gt=0, description="width of the prompt's features")
    norm_groups: int = Field(32, gt=0)
    temperature_width: int = Field(512, gt=0, multiple_of=2, description="width of the temperature's sinusoid")

    @model_validator(mode="after")
    def _levels_agree(self) -> SDNetwork:
        if len(self.channels) != len(self.attention):
            raise ValueError(f"channels has {len(self.channels)} levels and attention has {len(self.attention)}")
        for width in self.channels:
            if width % self.heads or width % self.norm_groups:
                raise ValueError(f"channels {width} is no multiple of heads {self.heads} and groups {self.norm_groups}")
        return self


def build_unet(card: ModelCard) -> UNet2DConditionModel:
    """The UNet of a card; `time_embedding.cond_proj` and `conv_out.slope` are its temperature inputs.

    Raises UsageError where the latent does not halve as often as the network does.
    """
    network = card.network_options(SDNetwork)
    shrink = 2 ** (len(network.channels) - 1)
    if card.grid % shrink:
        raise UsageError(
            f"{card.name}: a latent of {card.grid}x{card.grid} does not halve {len(network.channels) - 1} times; use a "
            f"-o resolution that is a multiple of {shrink * card.tokenizer.downsample}."
        )
    down = tuple("CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in network.attention)
    up = tuple("CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(network.attention))
    unet = UNet2DConditionModel(
        sample_size=card.grid,
        in_channels=card.tokenizer.channels,
        out_channels=card.tokenizer.channels,
        block_out_channels=network.channels,
        layers_per_block=network.layers,
        down_block_types=down,
        up_block_types=up,
        cross_attention_dim=network.text_width,
        attention_head_dim=network.heads,  # diffusers' old name: it counts heads
        norm_num_groups=network.norm_groups,
        time_cond_proj_dim=network.temperature_width if card.temperature and network.embeds else None,
    )
    if card.temperature and network.affine:
        unet.conv_out = SlopedConv(network, card.tokenizer.channels)
    if card.temperature and network.embeds:
        nn.init.normal_(unet.time_embedding.cond_proj.weight, std=0.02)  # from scratch; fine-tuning starts at zero
    return unet


def predict_noise(network: Any, x_t: Tensor, t_B: Tensor, text_BTD: Tensor, beta_B: Tensor | None) -> Prediction:
    """The predicted noise (B, C, h, w); `beta_B` None leaves the temperature's projection out altogether."""
    condition_BE = None
    if beta_B is not None and network.time_embedding.cond_proj is not None:
        condition_BE = embed_temperature(beta_B, network.time_embedding.cond_proj.in_features)
    noise: Tensor = network(x_t, t_B, encoder_hidden_states=text_BTD, timestep_cond=condition_BE).sample
    return Affine(*noise.chunk(2, dim=1)) if getattr(network.conv_out, "slope", None) is not None else noise


class SlopedConv(nn.Conv2d):
    """The UNet's last layer and, behind its channels, those of the slope d; keys and shapes of the layer stay."""

    def __init__(self, network: SDNetwork, channels: int) -> None:
        width = network.channels[0]
        super().__init__(width, channels, 3, padding=1)
        blocks = (ResidualConv(width, network.norm_groups) for _ in range(network.temperature_blocks))
        self.slope: Slope | None = Slope(nn.Conv2d(width, channels, 3, padding=1), blocks)
        start_slope(self)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's name)
        noise = super().forward(input)
        return noise if self.slope is None else torch.cat([noise, self.slope(input, input)], dim=1)


class ResidualConv(ResnetBlock2D):
    """diffusers' residual block, without a timestep of its own: a block of the slope's."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__(in_channels=width, out_channels=width, temb_channels=None, groups=groups)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return super().forward(x_BCHW, None)


def embed_temperature(beta_B: Tensor, width: int) -> Tensor:
    """The sinusoid (B, E) of s = 1/beta - 1, sines first: what a diffusers pipeline feeds for guidance_scale 1/beta.

    thu-ml/GFT stable-diffusion-v1-5/train.py; at beta = 1 it is 0 ... 0, 1 ... 1.
    """
    s_B = strength(beta_B)
    half = width // 2
    index_E = torch.arange(half, dtype=torch.float32, device=beta_B.device)
    frequency_E = torch.exp(-math.log(10_000.0) / (half - 1) * index_E)
    angle_BE = torch.outer(1000.0 * s_B, frequency_E)
    return torch.cat([angle_BE.sin(), angle_BE.cos()], dim=1)
