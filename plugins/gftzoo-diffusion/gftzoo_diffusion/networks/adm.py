"""ADM, the U-Net of guided diffusion (Dhariwal and Nichol, arXiv 2105.05233), with GFT's temperature input.

The network itself is in `adm_unet.py`, since it takes diffusers. Official weights know no null condition: its row is
the mean of the classes' rows. Suffixes: R rows of a class table, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.guidance import Guidance
from gftzoo.contract.hookspecs import hookimpl
from gftzoo.contract.model import Model
from gftzoo.generator import SampleGenerator
from gftzoo.layers.folding import Tensors, fold
from gftzoo.layers.temperature import Prediction
from gftzoo.layers.unet_names import RESIDUAL, places, renamed
from gftzoo_diffusion.networks import upsampling
from gftzoo_diffusion.networks.unet import UNetKind, UNetOptions
from gftzoo_diffusion.options import LearnedVariance
from gftzoo_diffusion.training import DiffusionProblem

ATTENTION = {"norm": "group_norm", "proj_out": "to_out.0"}
LABELS = "class_embedding.weight"


class ADMNetwork(LearnedVariance, UNetOptions):
    """Hyperparameters of an ADM."""

    head_width: int = Field(64, gt=0, description="channels of an attention head")
    heads: int | None = Field(None, gt=0, description="heads at every level, in place of head_width")
    scale_shift: bool = Field(True, description="the time scales and shifts a norm, and is not added before it")
    resample: Literal["residual", "conv"] = Field("residual", description="what changes the side: a block or a layer")
    attention_order: Literal["heads", "parts"] = Field(
        "heads", description="in official files: queries, keys and values of each head, or the heads of each"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="in the residual blocks")
    low_resolution: int | None = Field(
        None,
        gt=0,
        description="of an upsampler: side of the image that it enlarges, given beside the noisy one",
    )

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        for channels in self.attending:
            if channels % (self.heads or self.head_width):
                raise ValueError(
                    f"a level that attends has {channels} channels, no multiple of "
                    + (f"heads {self.heads}" if self.heads else f"head_width {self.head_width}")
                )
        return self

    @property
    def attending(self) -> list[int]:
        """Channels of the levels that attend, the middle among them."""
        return [c for c, attends in zip(self.channels, self.attention, strict=True) if attends] + [self.channels[-1]]


class ADMKind(UNetKind):
    """ADM on the shelf."""

    Options = ADMNetwork
    class_table = LABELS

    def assemble(self, options: Any, side: int, card: ModelCard) -> nn.Module:
        from gftzoo_diffusion.networks.adm_unet import ADM  # takes diffusers

        return ADM(options, side, card.tokenizer.channels, card.classes, card.temperature)

    def from_official(
        self, options: Any, tensors: Mapping[str, Tensor], ends: Mapping[str, str] | None = None
    ) -> Mapping[str, Tensor]:
        """A state dict under official names, under ours; `ends` are modules that only some files have."""
        modules = places(options.attention, options.layers, options.resample == "residual") | dict(ends or {})
        found = renamed(tensors, modules, RESIDUAL | ATTENTION)
        for key in [key for key in found if key.split(".")[-2] == "qkv"]:
            found |= split_qkv(key, found.pop(key), options)
        found |= {key: v.flatten(1) for key, v in found.items() if key.endswith("to_out.0.weight")}  # of Conv1d
        return found | {LABELS: with_mean(found[LABELS])} if LABELS in found else found

    def build_classifier(self, card: ModelCard, path: Path) -> nn.Module:
        from gftzoo_diffusion.networks.adm_classifier import build_classifier  # takes diffusers

        side = card.network_options(ADMNetwork).low_resolution
        return build_classifier(card if side is None else card.change(resolution=side), path)

    @hookimpl
    def fold_temperature(self, model: Model, beta: float) -> Tensors:
        channels, out = model.card.tokenizer.channels, model.network.conv_out.out_channels
        spare = torch.arange(out) >= channels
        return self.settled(model, fold(model.network, beta, self.embeddings, self.readout, ~spare), spare)

    def pose(self, options: Any, latents: Tensor, generator: SampleGenerator) -> DiffusionProblem:
        whole = super().pose(options, latents, generator)
        return whole if options.low_resolution is None else upsampling.given_smaller(whole, options.low_resolution)

    def predict(self, model: Model, problem: Any, condition: Tensor, beta: Tensor | None) -> Prediction:
        return super().predict(model, upsampling.beside(problem), condition, beta)

    def given(
        self, model: Model, condition: Tensor, guidance: Guidance, settings: Any, generator: SampleGenerator
    ) -> Tensor | None:
        """An upsampler's smaller images, which its base model draws."""
        side = model.card.network_options(ADMNetwork).low_resolution
        if side is None:
            return super().given(model, condition, guidance, settings, generator)
        return upsampling.drawn(model, condition, guidance, settings.base, side, generator)


def split_qkv(key: str, joined: Tensor, options: ADMNetwork) -> dict[str, Tensor]:
    """Queries, keys and values of a joint layer (3C, ...), whose last dimension is a convolution's."""
    joined = joined.squeeze(-1) if joined.ndim == 3 else joined
    if options.attention_order == "heads":
        channels = len(joined) // 3
        heads = options.heads or channels // options.head_width
        parts = [part.flatten(0, 1) for part in joined.unflatten(0, (heads, 3, -1)).unbind(1)]
    else:
        parts = list(joined.chunk(3))
    return {key.replace("qkv", f"to_{name}"): part.contiguous() for name, part in zip("qkv", parts, strict=True)}


def with_mean(table_RD: Tensor) -> Tensor:
    """A class table with a null row behind it: the mean of the others, since what is added is a sum."""
    return torch.cat([table_RD, table_RD.float().mean(0, keepdim=True).type_as(table_RD)])
