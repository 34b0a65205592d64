"""Tokenizers whose codes are the nearest vectors of a table: VQGAN's, and those of residuals, RQ-VAE's.

Suffixes: B batch, N = h * w positions, P codes of a position, E width of a code vector, V codebook, X any dimensions.
CompVis/taming-transformers, models/vqgan.py; kakaobrain/rq-vae-transformer, models/rqvae.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from gftzoo.catalogue.cards import Frozen, TokenizerSpec
from gftzoo.contract.tokenizer import Tokenizer
from gftzoo.errors import GftzooError
from gftzoo.generator import SampleGenerator
from gftzoo.layers.autoencoder import AutoencoderOptions
from gftzoo.layers.codebook import nearest
from gftzoo.tokenizers import ConvolutionalTokenizer, read_tokenizer_options, square_side, weights_file
from gftzoo.weights import load_weights, read_tensors


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


class ResidualCodebook(nn.Module):
    """One table for all codes of a position: each is the nearest vector to what the ones before it left over."""

    vectors: Tensor

    def __init__(self, codes: int, width: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.register_buffer("vectors", torch.zeros(codes, width))

    def encode(self, z_BNE: Tensor) -> Tensor:
        """Codes (B, N P), position by position."""
        codes = []
        for _ in range(self.parts):
            codes.append(nearest(z_BNE, self.vectors))
            z_BNE = z_BNE - self.vectors[codes[-1]]
        return torch.stack(codes, -1).flatten(1)

    def look_up(self, codes_BM: Tensor) -> Tensor:
        """The sum of the vectors of each position (B, E, h, w)."""
        codes_BNP = codes_BM.unflatten(1, (-1, self.parts))
        return self.vectors[codes_BNP].sum(2).mT.unflatten(-1, (square_side(codes_BNP), -1))


class RQVAE(ConvolutionalTokenizer):
    """Images to codes (B, N P) and back, with several codes a position."""

    def __init__(self, spec: TokenizerSpec) -> None:
        options = read_tokenizer_options(spec, CodebookOptions)
        super().__init__(spec, options, options.z_channels, attention=options.attention)
        assert spec.codebook is not None
        self.codebook = ResidualCodebook(spec.codebook, spec.channels, spec.parts)

    @torch.no_grad()
    def encode(self, images: Tensor, generator: SampleGenerator | None = None) -> Tensor:
        return self.codebook.encode(self.map_of(images).flatten(2).mT)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        return self.images_of(self.codebook.look_up(latents))

    def own_tensors(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The shared table stands in a file once for each code of a position, with a row that is never used."""
        tables = [tensors[key] for key in sorted(tensors) if key.startswith("quantizer.codebooks.") and "weight" in key]
        if len(tables) != self.codebook.parts or any(not torch.equal(tables[0], other) for other in tables):
            raise GftzooError(
                f"the file of tokenizer {self.spec.id!r} has {len(tables)} tables of codes, and it needs "
                f"{self.codebook.parts} times the same one; name another with --tokenizer-path."
            )
        kept = {key: tensor for key, tensor in tensors.items() if not key.startswith(("quantizer.", "loss."))}
        return {**kept, "codebook.vectors": tables[0][:-1]}


class ResidualPatches(Tokenizer):
    """Square patches of pixels as vectors of a table, several a patch, without an autoencoder; for small images."""

    def __init__(self, spec: TokenizerSpec) -> None:
        super().__init__(spec)
        assert spec.codebook is not None
        self.side = spec.downsample
        read_tokenizer_options(spec, Frozen)  # there are none
        self.codebook = ResidualCodebook(spec.codebook, spec.image_channels * self.side**2, spec.parts)

    def encode(self, images: Tensor, generator: SampleGenerator | None = None) -> Tensor:
        return self.codebook.encode(F.pixel_unshuffle(images, self.side).flatten(2).mT)

    def decode(self, latents: Tensor) -> Tensor:
        return F.pixel_shuffle(self.codebook.look_up(latents), self.side)

    @classmethod
    def load(cls, spec: TokenizerSpec, weights: str | None) -> Self:
        """With the table of a local file, or of the spec's beside this one."""
        tokenizer = cls(spec)
        path = Path(__file__).with_name(str(spec.file)) if weights is None else weights_file(spec, weights)
        load_weights(tokenizer, read_tensors(path).tensors, str(path))
        return tokenizer.eval()
