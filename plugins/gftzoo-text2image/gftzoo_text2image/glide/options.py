"""Hyperparameters of GLIDE and settings of its sampler. No torch here."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from gftzoo.catalogue.cards import Frozen

STEPS = 1000


class UNetOptions(Frozen):
    """Of a U-Net that predicts noise and variance of pictures, on the features of a text; the defaults are GLIDE's."""

    width: int = Field(192, gt=0, multiple_of=2, description="channels that the multipliers are of")
    multipliers: tuple[int, ...] = Field((1, 2, 3, 4), min_length=1, max_length=10, description="one for each level")
    attention: tuple[bool, ...] = Field((False, True, True, True), description="whether a level attends")
    layers: int = Field(3, gt=0, description="residual blocks of a level; one more on the way up")
    head_width: int = Field(64, gt=0, description="channels of an attention head")
    norm_groups: int = Field(32, gt=0, description="groups of the normalisation")
    text_width: int = Field(512, gt=0, description="of the features of the text")
    schedule: Literal["cosine", "linear"] = Field("cosine", description="of the noise")
    learn_variance: bool = Field(True, description="whether the variance trains; under GFT it stays as it is")
    temperature_input: Literal["embedding", "none"] = Field(
        "embedding", description="embedding adds the temperature to the timestep; none is for training at one of them"
    )

    @model_validator(mode="after")
    def _levels_agree(self) -> Self:
        if len(self.multipliers) != len(self.attention):
            raise ValueError(f"multipliers has {len(self.multipliers)} levels and attention has {len(self.attention)}")
        return self

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(self.width * multiplier for multiplier in self.multipliers)


class GlideNetwork(UNetOptions):
    """Of the U-Net and of its text transformer; the defaults are the base model's at 64 px."""

    text_layers: int = Field(16, gt=0, description="of the text transformer")
    text_heads: int = Field(8, gt=0, description="of its attention")
    tokens: int = Field(128, gt=0, le=8192, description="length of a prompt")
    vocabulary: int = Field(50257, gt=1, le=65536, description="tokens that there are; the last is the end of a text")
    enlarges: bool = Field(False, description="whether the network sees a small picture, of a quarter of the side, too")

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.text_width % self.text_heads:
            raise ValueError(f"text_width {self.text_width} is no multiple of text_heads {self.text_heads}")
        return self


class GlideSampler(Frozen):
    """Settings of the sampler."""

    sampler: Literal["ddpm", "ddim"] = Field("ddpm", description="ancestral as published for the base, or ddim")
    steps: int = Field(100, gt=0, le=STEPS, description="network evaluations (pairs of them with CFG)")
    spacing: str | None = Field(
        None, description="steps by section, e.g. 10,10,3,2,2, or fast27, the upsampler's; null is even"
    )
    clip: bool = Field(True, description="predicted pictures are cut to [-1, 1]")
    variance: Literal["auto", "learned", "fixed-large"] = Field(
        "auto", description="auto is the learned one of weights without a temperature"
    )
