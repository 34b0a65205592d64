"""Tokenizers: named objects between pixels and what a network sees.

A tokenizer carries its identity (`TokenizerSpec`: scale, shift, downsampling, channels, codebook) into runs, caches
and checkpoints, so that latents of one are never fed to a network trained on another.
"""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from gftzoo.catalogue.cards import TokenizerSpec
from gftzoo.generator import SampleGenerator


class Tokenizer(nn.Module):
    """Images (B, 3 or 1, H, W) float32 in [-1, 1] to latents and back. Frozen: it never trains with a generator."""

    def __init__(self, spec: TokenizerSpec) -> None:
        super().__init__()
        self.spec = spec

    @abstractmethod
    def encode(self, images: Tensor, generator: SampleGenerator | None = None) -> Tensor:
        """Latents (B, C, h, w) float32, or int64 codes (B, N); sampled where it is stochastic and given a generator."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Images (B, 3 or 1, H, W), nominally in [-1, 1], not clamped."""

    def moments(self, images: Tensor) -> Tensor | None:
        """What `draw_latents` draws from, (B, 2C, h, w); None (the default) where `encode` never draws."""
        return None


def draw_latents(moments_B2Chw: Tensor, spec: TokenizerSpec, generator: SampleGenerator | None = None) -> Tensor:
    """Shifted and scaled latents (B, C, h, w) of means and standard deviations; the means without a generator."""
    z_BChw, deviation_BChw = moments_B2Chw.chunk(2, 1)
    if generator is not None:
        z_BChw = z_BChw + deviation_BChw * generator.normal(*z_BChw.shape[1:])
    return (z_BChw - spec.shift) * spec.scale
