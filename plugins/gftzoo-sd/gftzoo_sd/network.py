"""diffusers' UNet as gftzoo's network, and the temperature embedding of the released GFT code.

Suffixes: B batch, E width of the temperature's sinusoid.
"""

from __future__ import annotations

import math

import torch
from diffusers import UNet2DConditionModel
from pydantic import Field, model_validator
from torch import Tensor, nn

from gftzoo.errors import UsageError
from gftzoo.zoo import Frozen, ModelCard

# torch.rand's smallest step: s = 1/beta - 1 stays finite, and every positive draw keeps the released code's value.
SMALLEST_BETA = 2.0**-24


class SDNetwork(Frozen):
    """Options of the UNet; the defaults are Stable Diffusion 1.5's."""

    channels: tuple[int, ...] = Field((320, 640, 1280, 1280), description="per level, finest first")
    attention: tuple[bool, ...] = Field((True, True, True, False), description="whether a level attends to the prompt")
    layers: int = Field(2, gt=0, description="residual blocks per level; one more on the way up")
    heads: int = Field(8, gt=0, description="attention heads of every level")
    text_width: int = Field(768, gt=0, description="width of the prompt's features")
    norm_groups: int = Field(32, gt=0)
    temperature_width: int = Field(512, gt=0, multiple_of=2, description="width of the temperature's sinusoid")
    lora_rank: int | None = Field(None, gt=0, description="train LoRA factors of this rank in the attention only")
    lora_alpha: float | None = Field(None, gt=0, description="LoRA's strength; None is the rank")

    @model_validator(mode="after")
    def _levels_agree(self) -> SDNetwork:
        if len(self.channels) != len(self.attention):
            raise ValueError(f"channels has {len(self.channels)} levels and attention has {len(self.attention)}")
        for width in self.channels:
            if width % self.heads or width % self.norm_groups:
                raise ValueError(f"channels {width} is no multiple of heads {self.heads} and groups {self.norm_groups}")
        return self


def build_unet(card: ModelCard) -> UNet2DConditionModel:
    """The UNet of a card, without LoRA; `time_embedding.cond_proj` is there iff `card.temperature`.

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
        time_cond_proj_dim=network.temperature_width if card.temperature else None,
    )
    if card.temperature:
        nn.init.normal_(unet.time_embedding.cond_proj.weight, std=0.02)  # from scratch; fine-tuning starts at zero
    return unet


def predict_noise(network: nn.Module, x_t: Tensor, t_B: Tensor, text_BTD: Tensor, beta_B: Tensor | None) -> Tensor:
    """The predicted noise (B, C, h, w); `beta_B` None leaves the temperature's projection out altogether."""
    condition_BE = None
    if beta_B is not None:
        condition_BE = embed_temperature(beta_B, network.time_embedding.cond_proj.in_features)
    noise: Tensor = network(x_t, t_B, encoder_hidden_states=text_BTD, timestep_cond=condition_BE).sample
    return noise


def embed_temperature(beta_B: Tensor, width: int) -> Tensor:
    """The sinusoid (B, E) of s = 1/beta - 1, sines first: what a diffusers pipeline feeds for guidance_scale 1/beta.

    thu-ml/GFT stable-diffusion-v1-5/train.py; at beta = 1 it is 0 ... 0, 1 ... 1.
    """
    s_B = 1.0 / beta_B.float().clamp(min=SMALLEST_BETA) - 1.0
    half = width // 2
    index_E = torch.arange(half, dtype=torch.float32, device=beta_B.device)
    frequency_E = torch.exp(-math.log(10_000.0) / (half - 1) * index_E)
    angle_BE = torch.outer(1000.0 * s_B, frequency_E)
    return torch.cat([angle_BE.sin(), angle_BE.cos()], dim=1)
