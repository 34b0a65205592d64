"""VQGAN: codes are the nearest vectors of a table.

Suffixes: B batch, N = h * w positions, E width of a code vector, V codebook. CompVis/taming-transformers,
models/vqgan.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from gftzoo.catalogue.cards import TokenizerSpec
from gftzoo.generator import SampleGenerator
from gftzoo.layers.autoencoder import AutoencoderOptions
from gftzoo.layers.codebook import nearest
from gftzoo.tokenizers import ConvolutionalTokenizer, read_tokenizer_options, square_side


class CodebookOptions(AutoencoderOptions):
    """Options of a convolutional autoencoder with a table of codes."""

    z_channels: int = Field(256, gt=0, description="channels before the projection to code vectors")
    attends: bool = Field(True, description="attention at the lowest resolution, besides that of the middle")

    @property
    def attention(self) -> tuple[set[int], set[int]]:
        """Levels that attend, of encoder and decoder."""
        levels = {self.lowest} if self.attends else set[int]()
        return levels, levels


class VQGAN(ConvolutionalTokenizer):
    """Images to codes (B, N) and back; the nearest vector by its distance."""

    def __init__(self, spec: TokenizerSpec) -> None:
        options = read_tokenizer_options(spec, CodebookOptions)
        super().__init__(spec, options, options.z_channels, attention=options.attention)
        assert spec.codebook is not None
        self.quantize = nn.ModuleDict({"embedding": nn.Embedding(spec.codebook, spec.channels)})

    @property
    def vectors(self) -> Tensor:
        """The code vectors (V, E)."""
        return self.quantize["embedding"].get_parameter("weight")

    @torch.no_grad()
    def encode(self, images: Tensor, generator: SampleGenerator | None = None) -> Tensor:
        return nearest(self.map_of(images).flatten(2).mT, self.vectors)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        return self.images_of(self.vectors[latents].mT.unflatten(-1, (square_side(latents), -1)))

    def own_tensors(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Files hold a discriminator, too, and those of a transformer its first stage."""
        first = {key.removeprefix("first_stage_model."): tensor for key, tensor in tensors.items()}
        return {key: tensor for key, tensor in first.items() if not key.startswith(("loss.", "transformer."))}
