"""What the U-Nets of guided diffusion and latent diffusion share on the shelf: options and official weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, model_validator
from torch import Tensor

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.hookspecs import hookimpl
from gftzoo_diffusion.networks.kind import Kind
from gftzoo_diffusion.options import NetworkOptions

MARK = "input_blocks.0.0.weight"  # how a tensor ends that only official files have


class UNetOptions(NetworkOptions):
    """Hyperparameters of a U-Net; levels are resolutions, finest first."""

    width: int = Field(gt=0, multiple_of=2, description="channels that the multipliers are of; the time has 4 times it")
    multipliers: tuple[float, ...] = Field(min_length=1, max_length=10, description="of the width, one for each level")
    attention: tuple[bool, ...] = Field(description="whether a level attends, one for each level")
    layers: int = Field(2, gt=0, description="residual blocks of a level; one more on the way up")
    norm_groups: int = Field(32, gt=0, description="groups of the normalisation")

    @model_validator(mode="after")
    def _levels_agree(self) -> Self:
        if len(self.multipliers) != len(self.attention):
            raise ValueError(f"multipliers has {len(self.multipliers)} levels and attention has {len(self.attention)}")
        odd = next((width for width in self.channels if width < 1 or width % self.norm_groups), None)
        if odd is not None:
            raise ValueError(f"a level has {odd} channels, which is no multiple of norm_groups {self.norm_groups}")
        if self.temperature_rank:
            raise ValueError("the slope of a U-Net is read out by one convolution; leave temperature_rank out")
        return self

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(int(multiplier * self.width) for multiplier in self.multipliers)

    @property
    def side_multiple(self) -> int:
        return 2 ** (len(self.multipliers) - 1)

    @property
    def cut(self) -> str:
        return f"in half {len(self.multipliers) - 1} times"


class UNetKind(Kind):
    """A U-Net on the shelf, whose tensors have diffusers' names."""

    names_are_official = False
    embeddings = {"beta_embedder": ("time_embedding.linear_2.bias",)}
    readout = "conv_out"

    def from_official(self, options: Any, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """A state dict under official names, under ours."""
        raise NotImplementedError

    @hookimpl
    def import_weights(self, card: ModelCard, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Official names and ours."""
        options = card.network_options(self.Options)
        official = any(key.endswith(MARK) for key in tensors)
        return super().import_weights(card, self.from_official(options, tensors) if official else tensors)
