"""LlamaGen's image tokenizer.

Suffixes: B batch, N = h * w codes, E width of a code vector, V codebook. FoundationVision/LlamaGen,
tokenizer/tokenizer_image/vq_model.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from gftzoo.catalogue.cards import TokenizerSpec
from gftzoo.generator import SampleGenerator
from gftzoo.layers.autoencoder import AutoencoderOptions
from gftzoo.layers.codebook import nearest
from gftzoo.tokenizers import ConvolutionalTokenizer, read_tokenizer_options, square_side

MIDDLE = ("block_1", "attn_1", "block_2")  # the official files number them
USAGE_WINDOW = 65_536  # codes that the official training remembers in a buffer of the file


class VQOptions(AutoencoderOptions):
    """Options of the vector-quantised autoencoder."""

    z_channels: int = Field(256, gt=0, description="channels before the projection to code vectors")


class Codebook(nn.Module):
    """Code vectors; they and what is looked up are compared at unit length."""

    def __init__(self, codes: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(codes, width)
        self.register_buffer("codebook_used", torch.zeros(USAGE_WINDOW))

    def nearest(self, z_BEhw: Tensor) -> Tensor:
        """The index of the nearest code (B, h * w), row by row."""
        z_BNE = z_BEhw.flatten(2).transpose(1, 2).double()
        return nearest(F.normalize(z_BNE, dim=-1), F.normalize(self.embedding.weight.double(), dim=-1))

    def look_up(self, codes_BN: Tensor, grid: int) -> Tensor:
        """Code vectors of unit length (B, E, h, w)."""
        codes_VE = F.normalize(self.embedding.weight, dim=-1)
        return codes_VE[codes_BN].transpose(1, 2).unflatten(-1, (-1, grid))


class VQ(ConvolutionalTokenizer):
    """Images to codes (B, N) and back by a convolutional autoencoder (VQ-16, VQ-8)."""

    def __init__(self, spec: TokenizerSpec) -> None:
        options = read_tokenizer_options(spec, VQOptions)
        super().__init__(spec, options, options.z_channels)
        assert spec.codebook is not None
        self.quantize = Codebook(spec.codebook, spec.channels)

    @torch.no_grad()
    def encode(self, images: Tensor, generator: SampleGenerator | None = None) -> Tensor:
        return self.quantize.nearest(self.map_of(images))

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        return self.images_of(self.quantize.look_up(latents, square_side(latents)))

    def own_tensors(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        lowest = len(self.decoder.up) - 1
        return {_rename(key, lowest): tensor for key, tensor in tensors.items()}


def _rename(key: str, lowest: int) -> str:
    """The key of `gftzoo.layers.autoencoder` for an official one, whose decoder counts levels from the lowest up."""
    key = re.sub(r"^encoder\.conv_blocks\.", "encoder.down.", key)
    key = re.sub(r"^decoder\.conv_blocks\.(\d+)", lambda found: f"decoder.up.{lowest - int(found[1])}", key)
    key = re.sub(r"\.res\.", ".block.", key)
    return re.sub(r"\.mid\.([012])\.", lambda found: f".mid.{MIDDLE[int(found[1])]}.", key)
