"""KL-16, MAR's tokenizer: a convolutional autoencoder with a Gaussian latent, sixteen times smaller than the image.

Suffixes: B batch, C channels, H height, W width, S = H W. "High-Resolution Image Synthesis with Latent
Diffusion Models" (arXiv 2112.10752); module names are those of LTH14/mar, models/vae.py, so that its file loads as it
is.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor

from gftzoo.catalogue.cards import TokenizerSpec
from gftzoo.contract.tokenizer import draw_latents
from gftzoo.generator import SampleGenerator
from gftzoo.layers.autoencoder import AutoencoderOptions
from gftzoo.tokenizers import ConvolutionalTokenizer, read_tokenizer_options

OWN = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")


class KLOptions(AutoencoderOptions):
    """Options of the autoencoder; the defaults are KL-16's, which attends in the encoder and the middle only."""

    attention: tuple[int, ...] = Field((4,), description="levels of the encoder with attention")


class KL16(ConvolutionalTokenizer):
    """The autoencoder as a tokenizer: latents sampled from the posterior and scaled by `spec.scale` (0.2325)."""

    def __init__(self, spec: TokenizerSpec) -> None:
        options = read_tokenizer_options(spec, KLOptions)
        super().__init__(spec, options, spec.channels, moments=2, attention=(options.attention, ()))

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance (B, C, h, w) of the latent of images in [-1, 1]."""
        mean_BCHW, log_variance_BCHW = self.map_of(images).chunk(2, 1)
        return mean_BCHW, log_variance_BCHW.clamp(-30, 20)

    def encode(self, images: Tensor, generator: SampleGenerator | None = None) -> Tensor:
        return draw_latents(self.moments(images), self.spec, generator)

    @torch.no_grad()
    def moments(self, images: Tensor) -> Tensor:
        mean_BCHW, log_variance_BCHW = self.posterior(images)
        return torch.cat([mean_BCHW, (0.5 * log_variance_BCHW).exp()], 1)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        return self.images_of(latents / self.spec.scale + self.spec.shift)

    def own_tensors(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return {key: value for key, value in tensors.items() if key.startswith(OWN)}
