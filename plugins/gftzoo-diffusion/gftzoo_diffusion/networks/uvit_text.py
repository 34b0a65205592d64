"""U-ViT for text to image (arXiv 2209.12152, libs/uvit_t2i.py): the tokens of a prompt in place of the class's.

Suffixes: B batch, N tokens of the prompt, E width of its features, D width of the network.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.pieces import PromptConditions
from gftzoo_diffusion.networks.uvit import UViT, UViTKind, UViTNetwork


class UViTTextNetwork(UViTNetwork):
    """Hyperparameters of a U-ViT that reads prompts; the defaults are those of CLIP ViT-L/14's features."""

    text_tokens: int = Field(77, gt=0, le=8192, description="length of a prompt, with its padding")
    text_width: int = Field(768, gt=0, description="width of the prompt's features")


class UViTText(UViT):
    """Noise prediction of a noised latent under a prompt's features (B, N, E); the time's token is the first."""

    def build_condition(self, network: Any, classes: int) -> int:
        self.context_embed = nn.Linear(network.text_width, network.width)
        return int(network.text_tokens)

    @property
    def time_place(self) -> int:
        return 0

    def told(self, time_BD: Tensor, text_BNE: Tensor) -> list[Tensor]:
        return [time_BD[:, None], self.context_embed(text_BNE)]


class UViTTextKind(PromptConditions, UViTKind):
    """U-ViT for prompts on the shelf."""

    Options = UViTTextNetwork

    def assemble(self, options: Any, side: int, card: ModelCard) -> nn.Module:
        return UViTText(options, side, card.tokenizer.channels, 0, card.temperature)

    def prompt_shape(self, card: ModelCard) -> tuple[int | None, int]:
        options = card.network_options(UViTTextNetwork)
        return options.text_tokens, options.text_width
