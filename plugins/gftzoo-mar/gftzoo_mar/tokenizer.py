"""KL-16, MAR's tokenizer: a convolutional autoencoder with a Gaussian latent, sixteen times smaller than the image.

Suffixes: B batch, C channels, H height, W width, S = H W. "High-Resolution Image Synthesis with Latent
Diffusion Models" (arXiv 2112.10752); module names are those of LTH14/mar, models/vae.py, so that its file loads as it
is.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from gftzoo.catalogue.cards import TokenizerSpec
from gftzoo.contract.tokenizer import Tokenizer, draw_latents
from gftzoo.generator import SampleGenerator
from gftzoo.layers.autoencoder import AutoencoderOptions, Decoder, Encoder
from gftzoo.tokenizers import read_tokenizer_options, weights_file
from gftzoo.weights import load_weights, read_tensors

OWN = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")


class KLOptions(AutoencoderOptions):
    """Options of the autoencoder; the defaults are KL-16's, which attends in the encoder and the middle only."""

    attention: tuple[int, ...] = Field((4,), description="levels of the encoder with attention")


class KL16(Tokenizer):
    """The autoencoder as a tokenizer: latents sampled from the posterior and scaled by `spec.scale` (0.2325)."""

    def __init__(self, spec: TokenizerSpec) -> None:
        super().__init__(spec)
        options = read_tokenizer_options(spec, KLOptions)
        self.encoder = Encoder(options, spec.image_channels, 2 * spec.channels, options.attention)
        self.decoder = Decoder(options, spec.image_channels, spec.channels, ())
        self.quant_conv = nn.Conv2d(2 * spec.channels, 2 * spec.channels, 1)
        self.post_quant_conv = nn.Conv2d(spec.channels, spec.channels, 1)
        self.eval().requires_grad_(False)

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance (B, C, h, w) of the latent of images in [-1, 1]."""
        mean_BCHW, log_variance_BCHW = self.quant_conv(self.encoder(images)).chunk(2, 1)
        return mean_BCHW, log_variance_BCHW.clamp(-30, 20)

    def encode(self, images: Tensor, generator: SampleGenerator | None = None) -> Tensor:
        return draw_latents(self.moments(images), self.spec, generator)

    @torch.no_grad()
    def moments(self, images: Tensor) -> Tensor:
        mean_BCHW, log_variance_BCHW = self.posterior(images)
        return torch.cat([mean_BCHW, (0.5 * log_variance_BCHW).exp()], 1)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        return self.decoder(self.post_quant_conv(latents / self.spec.scale + self.spec.shift))


def load_kl16(spec: TokenizerSpec, weights: str | None) -> KL16:
    """The autoencoder with official weights: a local `kl16.ckpt` (or `.safetensors`), or the hub file of the spec.

    Raises:
        UsageError: no file is named, or the spec's options are no autoencoder's.
        GftzooError: the file cannot be fetched, is damaged or holds another autoencoder.
    """
    path, tokenizer = weights_file(spec, weights), KL16(spec)
    tensors = read_tensors(path).tensors
    load_weights(tokenizer, {key: value for key, value in tensors.items() if key.startswith(OWN)}, str(path))
    return tokenizer
