"""Tokenizers whose positions have several codes, each of what the ones before it left over: RQ-VAE's.

Suffixes: B batch, N = h * w positions, P codes of a position, E width of a code vector, V codebook. "Autoregressive
Image Generation using Residual Quantization" (arXiv 2203.01941); kakaobrain/rq-vae-transformer, models/rqvae.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from gftzoo.catalogue.cards import Frozen, TokenizerSpec
from gftzoo.contract.tokenizer import Tokenizer
from gftzoo.errors import GftzooError
from gftzoo.generator import SampleGenerator
from gftzoo.layers.codebook import distances, nearest
from gftzoo.tokenizers import ConvolutionalTokenizer, read_tokenizer_options, square_side, weights_file
from gftzoo.weights import load_weights, read_tensors
from gftzoo_autoregressive.tokenizers import CodebookOptions

Draw = Callable[[int, Tensor], Tensor]  # which code of a position, and its logits (B, N, V), to codes (B, N)


class SoftOptions(Frozen):
    """What training sees of an image."""

    soft_temperature: float = Field(
        0.0,
        ge=0,
        description="codes are drawn anew at every step, by the softmax of -distance^2 over this; 0 takes the nearest",
    )

    @field_validator("soft_temperature")
    @classmethod
    def _divides(cls, value: float) -> float:
        if 0 < value < 1e-6:
            raise ValueError(f"{value} is too small to divide by; take 0, or 1e-6 and more")
        return value


class RQVAEOptions(CodebookOptions, SoftOptions):
    """Options of RQ-VAE."""


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

    def soften(self, z_BNE: Tensor, temperature: float, draw: Draw) -> tuple[Tensor, Tensor]:
        """Codes (B, N P) as `draw` has it, and the chances (B, N P, V) that they were drawn with.

        The residual of a drawn code is what the next one is drawn for.
        """
        codes, chances = [], []
        for part in range(self.parts):
            logits_BNV = -distances(z_BNE, self.vectors) / temperature
            codes.append(draw(part, logits_BNV))
            chances.append(logits_BNV.softmax(-1).float())
            z_BNE = z_BNE - self.vectors[codes[-1]]
        return torch.stack(codes, -1).flatten(1), torch.stack(chances, 2).flatten(1, 2)

    def look_up(self, codes_BM: Tensor, first: int | None = None) -> Tensor:
        """The sum of the vectors of each position (B, E, h, w), of the `first` ones of its codes, by default all."""
        codes_BNP = codes_BM.unflatten(1, (-1, self.parts))[..., :first]
        return self.vectors[codes_BNP].sum(2).mT.unflatten(-1, (square_side(codes_BNP), -1))


class ResidualTokenizer(Tokenizer):
    """Images to codes (B, N P) and back.

    With a soft temperature an image is its vectors (B, E, h, w) before they become codes, so that they can become
    others at every step of training; what is drawn is the sum of its codes' vectors.
    """

    codebook: ResidualCodebook
    options: SoftOptions

    def vectors_of(self, images: Tensor) -> Tensor:
        """Vectors of images (B, E, h, w)."""
        raise NotImplementedError

    def picture(self, vectors_BEhw: Tensor) -> Tensor:
        """Images of vectors."""
        raise NotImplementedError

    @torch.no_grad()
    def encode(self, images: Tensor, generator: SampleGenerator | None = None) -> Tensor:
        vectors_BEhw = self.vectors_of(images)
        return vectors_BEhw if self.options.soft_temperature else self.codebook.encode(vectors_BEhw.flatten(2).mT)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        return self.picture(latents if latents.is_floating_point() else self.codebook.look_up(latents))

    @torch.no_grad()
    def decode_partly(self, codes_BM: Tensor, first: int) -> Tensor:
        """Images of the first codes of each position, without those behind them: the image, coarser."""
        return self.picture(self.codebook.look_up(codes_BM, first))

    def latents_of(self, codes_BM: Tensor) -> Tensor:
        """Codes as what `encode` gives."""
        return self.codebook.look_up(codes_BM) if self.options.soft_temperature else codes_BM


class RQVAE(ConvolutionalTokenizer, ResidualTokenizer):
    """Images to codes (B, N P) and back by a convolutional autoencoder."""

    def __init__(self, spec: TokenizerSpec) -> None:
        options = read_tokenizer_options(spec, RQVAEOptions)
        super().__init__(spec, options, options.z_channels, attention=options.attention)
        assert spec.codebook is not None
        self.options = options
        self.codebook = ResidualCodebook(spec.codebook, spec.channels, spec.parts)

    def vectors_of(self, images: Tensor) -> Tensor:
        return self.map_of(images)

    def picture(self, vectors_BEhw: Tensor) -> Tensor:
        return self.images_of(vectors_BEhw)

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


class ResidualPatches(ResidualTokenizer):
    """Square patches of pixels as vectors of a table, several a patch, without an autoencoder; for small images."""

    def __init__(self, spec: TokenizerSpec) -> None:
        super().__init__(spec)
        assert spec.codebook is not None
        self.side, self.options = spec.downsample, read_tokenizer_options(spec, SoftOptions)
        self.codebook = ResidualCodebook(spec.codebook, spec.image_channels * self.side**2, spec.parts)

    def vectors_of(self, images: Tensor) -> Tensor:
        return F.pixel_unshuffle(images, self.side)

    def picture(self, vectors_BEhw: Tensor) -> Tensor:
        return F.pixel_shuffle(vectors_BEhw, self.side)

    @classmethod
    def load(cls, spec: TokenizerSpec, weights: str | None) -> Self:
        """With the table of a local file, or of the spec's beside this one."""
        tokenizer = cls(spec)
        path = Path(__file__).with_name(str(spec.file)) if weights is None else weights_file(spec, weights)
        load_weights(tokenizer, read_tensors(path).tensors, str(path))
        return tokenizer.eval()
