"""The options of the UNet, its prediction, and the temperature embedding of the released GFT code.

The UNet itself is in `unet.py`, since it takes diffusers.

Suffixes: B batch, E width of the temperature's sinusoid.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator
from torch import Tensor

from gftzoo.layers.guidance_embedding import embed_strength
from gftzoo.layers.temperature import Affine, Prediction, TemperatureOptions, strength


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


def predict_noise(network: Any, x_t: Tensor, t_B: Tensor, text_BTD: Tensor, beta_B: Tensor | None) -> Prediction:
    """The predicted noise (B, C, h, w); `beta_B` None leaves the temperature's projection out altogether."""
    condition_BE = None
    if beta_B is not None and network.time_embedding.cond_proj is not None:
        condition_BE = embed_temperature(beta_B, network.time_embedding.cond_proj.in_features)
    noise: Tensor = network(x_t, t_B, encoder_hidden_states=text_BTD, timestep_cond=condition_BE).sample
    return Affine(*noise.chunk(2, dim=1)) if getattr(network.conv_out, "slope", None) is not None else noise


def embed_temperature(beta_B: Tensor, width: int) -> Tensor:
    """The sinusoid (B, E) of s = 1/beta - 1: what a diffusers pipeline feeds for guidance_scale 1/beta."""
    return embed_strength(strength(beta_B), width)
