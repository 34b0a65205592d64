"""First stages of latent diffusion whose latents are not drawn: VQ-f4.

Suffixes: B batch, C channels, h w sides of the latent, V codes. "High-Resolution Image Synthesis with Latent Diffusion
Models" (arXiv 2112.10752); module names are those of CompVis/latent-diffusion, ldm/models/autoencoder.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from gftzoo.catalogue.cards import TokenizerSpec
from gftzoo.generator import SampleGenerator
from gftzoo.layers.autoencoder import AutoencoderOptions
from gftzoo.layers.codebook import nearest
from gftzoo.tokenizers import ConvolutionalTokenizer, read_tokenizer_options

OWN = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.", "quantize.embedding.")
FIRST_STAGE = "first_stage_model."  # prefix in a checkpoint of the diffusion model


class LatentVQOptions(AutoencoderOptions):
    """Sizes of a first stage and of its quantiser. The latents are no codes: the spec has no `codebook`."""

    vectors: int = Field(8192, ge=2, le=2**20, description="code vectors")


class LatentVQ(ConvolutionalTokenizer):
    """Latents are what stands before the quantiser; decoding takes each place to its nearest code vector first."""

    def __init__(self, spec: TokenizerSpec) -> None:
        options = read_tokenizer_options(spec, LatentVQOptions)
        super().__init__(spec, options, spec.channels, attention=((), ()))
        self.quantize = nn.ModuleDict({"embedding": nn.Embedding(options.vectors, spec.channels)})

    @torch.no_grad()
    def encode(self, images: Tensor, generator: SampleGenerator | None = None) -> Tensor:
        return (self.map_of(images) - self.spec.shift) * self.spec.scale

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        return self.images_of(self.quantised(latents / self.spec.scale + self.spec.shift))

    @property
    def vectors(self) -> Tensor:
        """The code vectors (V, C)."""
        vectors: Tensor = self.quantize["embedding"].get_parameter("weight")
        return vectors

    def codes(self, map_BChw: Tensor) -> Tensor:
        """The index (B, h, w) of the code vector nearest to each place, int64."""
        return nearest(map_BChw.flatten(2).transpose(1, 2), self.vectors).view(len(map_BChw), *map_BChw.shape[2:])

    def quantised(self, map_BChw: Tensor) -> Tensor:
        """The map of code vectors (B, C, h, w)."""
        return F.embedding(self.codes(map_BChw), self.vectors).permute(0, 3, 1, 2)

    def own_tensors(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Of a file of the first stage, or of the whole diffusion model."""
        if any(key.startswith(FIRST_STAGE) for key in tensors):
            tensors = {k.removeprefix(FIRST_STAGE): v for k, v in tensors.items() if k.startswith(FIRST_STAGE)}
        return {key: value for key, value in tensors.items() if key.startswith(OWN)}
