"""The tokenizers: images to codes and back, by the nearest code vector or by the signs of a map.

Suffixes: B batch, N = h * w codes, Z channels of the quantised map.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from gftzoo.catalogue.cards import TokenizerSpec
from gftzoo.contract.tokenizer import Tokenizer
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator
from gftzoo.layers.codebook import nearest
from gftzoo.tokenizers import read_tokenizer_options, square_side, weights_file
from gftzoo.weights import load_weights, read_tensors
from gftzoo_maskgit.autoencoder import ConvOptions, Decoder, Encoder
from gftzoo_maskgit.bits import from_bits, to_bits
from gftzoo_maskgit.tokenizer_names import renamed


class TokenizerOptions(ConvOptions):
    """Options of a tokenizer."""

    unit_range: bool = Field(True, description="images in [0, 1] inside, not [-1, 1]")


class ConvTokenizer(Tokenizer):
    """A convolutional autoencoder whose map is quantised: kind `conv-vq` by code vectors, `conv-lfq` by signs.

    Raises UsageError where a lookup-free quantiser's codebook is not 2 to the power of its channels.
    """

    def __init__(self, spec: TokenizerSpec) -> None:
        super().__init__(spec)
        self.options = read_tokenizer_options(spec, TokenizerOptions)
        self.encoder = Encoder(self.options, spec.image_channels, spec.channels)
        self.decoder = Decoder(self.options, spec.image_channels, spec.channels)
        self.codebook: nn.Embedding | None = None
        if spec.kind == "conv-vq":
            self.codebook = nn.Embedding(spec.codebook or 1, spec.channels)
        elif spec.codebook != 1 << spec.channels:
            raise UsageError(
                f"tokenizer {spec.id!r} makes a code of {spec.channels} signs, which are 2^{spec.channels} = "
                f"{1 << spec.channels} codes, and has codebook={spec.codebook}."
            )
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def encode(self, images: Tensor, generator: SampleGenerator | None = None) -> Tensor:
        return self.quantise(self.encoder((images + 1) / 2 if self.options.unit_range else images))

    def quantise(self, z_BZhw: Tensor) -> Tensor:
        """The codes (B, N) of a map, row by row."""
        z_BNZ = z_BZhw.flatten(2).transpose(1, 2)
        return from_bits(z_BNZ) if self.codebook is None else nearest(z_BNZ, self.codebook.weight)

    def look_up(self, codes_BN: Tensor) -> Tensor:
        """The quantised map (B, Z, h, w) of codes."""
        z_BNZ = to_bits(codes_BN, self.spec.channels) if self.codebook is None else self.codebook(codes_BN)
        return z_BNZ.transpose(1, 2).unflatten(-1, (square_side(codes_BN), -1))

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        images = self.decoder(self.look_up(latents))
        return images * 2 - 1 if self.options.unit_range else images


def load_tokenizer(spec: TokenizerSpec, weights: str | None) -> ConvTokenizer:
    """A tokenizer with official weights: a local file of any of the official codes, or the hub file of the spec.

    Raises:
        UsageError: no file is named, or the spec's options are no autoencoder's.
        GftzooError: the file cannot be fetched, is damaged or holds another autoencoder.
    """
    path, tokenizer = weights_file(spec, weights), ConvTokenizer(spec)
    tensors = renamed(read_tensors(path).tensors, tokenizer.options)
    load_weights(tokenizer, tensors, str(path))
    return tokenizer
