"""Hyperparameters of unCLIP's networks and tokenizers, and settings of their samplers. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gftzoo.catalogue.cards import Frozen
from gftzoo_text2image.glide.options import STEPS, GlideSampler, UNetOptions


class PriorNetwork(Frozen):
    """Of the prior, a causal transformer; the defaults are Karlo's."""

    clip_width: int = Field(768, gt=0, description="of CLIP's embeddings and of its text features")
    layers: int = Field(20, gt=0, description="of the transformer")
    heads: int = Field(32, gt=0, description="of its attention")
    head_width: int = Field(64, gt=0, description="channels of an attention head")
    tokens: int = Field(77, gt=0, le=8192, description="length of a prompt")
    temperature_input: Literal["embedding", "none"] = Field(
        "embedding", description="embedding adds the temperature to the timestep; none is for training at one of them"
    )


class DecoderNetwork(UNetOptions):
    """Of the decoder, GLIDE's U-Net on CLIP's features; the defaults are Karlo's."""

    width: int = Field(320, gt=0, multiple_of=2, description="channels that the multipliers are of")
    text_width: int = Field(1536, gt=0, description="that the features of the text are projected to")
    clip_width: int = Field(768, gt=0, description="of CLIP's embeddings and of its text features")
    clip_tokens: int = Field(4, gt=0, description="tokens that the picture's embedding becomes")
    tokens: int = Field(77, gt=0, le=8192, description="length of a prompt")


class PriorSampler(Frozen):
    """Settings of the prior's sampler, the ancestral one as published."""

    steps: int = Field(25, gt=0, le=STEPS, description="network evaluations (pairs of them with CFG)")


class DecoderSampler(GlideSampler):
    """Settings of the decoder's sampler, and of the prior that it draws a picture's embedding with."""

    steps: int = Field(50, gt=0, le=STEPS, description="network evaluations (pairs of them with CFG)")
    prior: str = Field(
        "karlo-prior", description="the prior: a run or folder, or a model's name for its weights `base`"
    )
    prior_steps: int = Field(25, gt=0, le=STEPS, description="network evaluations of the prior")
    prior_cfg: float = Field(4.0, ge=0, description="CFG scale of a plain prior; 1 is off")
    prior_beta: float = Field(0.25, gt=0, le=1, description="temperature of a prior that has one as an input")


class EnlargerOptions(Frozen):
    """Of the two U-Nets that enlarge a picture; the defaults are Karlo's."""

    width: int = Field(320, gt=0, multiple_of=2, description="channels that the multipliers are of")
    multipliers: tuple[int, ...] = Field((1, 2, 3, 4), min_length=1, max_length=10, description="one for each level")
    layers: int = Field(3, gt=0, description="residual blocks of a level; one more on the way up")


class ClipOptions(Frozen):
    """Options of the tokenizers that embed pictures by CLIP."""

    image_encoder: str = Field("openai/clip-vit-large-patch14", description="CLIP's, a folder or hub repository")
    clip_width: int = Field(768, gt=0, description="of its embeddings")
    decoder: str = Field("karlo-decoder", description="the prior's only: what draws a picture of an embedding")
    enlarger: EnlargerOptions = Field(EnlargerOptions(), description="the decoder's only: of its official file")
