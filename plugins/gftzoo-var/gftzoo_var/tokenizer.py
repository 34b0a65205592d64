"""VAR's tokenizer: a convolutional autoencoder around multi-scale residual quantisation.

Suffixes: B batch, E width of a code vector, h side of the full map, L codes of all scales, T = L - 1.
FoundationVision/VAR, models/vqvae.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from pydantic import Field
from torch import Tensor

from gftzoo.catalogue.cards import TokenizerSpec
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator
from gftzoo.layers.autoencoder import AutoencoderOptions
from gftzoo.tokenizers import ConvolutionalTokenizer, read_tokenizer_options
from gftzoo_var.quantizer import Quantizer

KIND = "multi-scale-vq"
USAGE = "quantize.ema_vocab_hit_SV"  # how often codes were used in training; read by nothing


class MultiScaleVQOptions(AutoencoderOptions):
    """Options of the tokenizer; the defaults are those of the released one."""

    width: int = Field(160, gt=0, description="channels at full resolution")
    phis: int = Field(4, gt=0, description="phi convolutions, each shared by neighbouring scales")


class MultiScaleVQ(ConvolutionalTokenizer):
    """Images to codes (B, L), all scales one after the other, and back. Computes in float32 whatever the autocast.

    Raises UsageError for a spec without codebook or scales, or whose scales do not rise from 1.
    """

    def __init__(self, spec: TokenizerSpec) -> None:
        options, scales = read_tokenizer_options(spec, MultiScaleVQOptions), spec.scales or ()
        if spec.codebook is None or scales[:1] != (1,) or list(scales) != sorted(set(scales)):
            raise UsageError(
                f"tokenizer {spec.id!r} of kind {KIND!r} has codebook={spec.codebook} and scales={spec.scales}; "
                "it needs a codebook and scales that rise from 1, such as scales: [1, 2, 4]."
            )
        super().__init__(spec, options, spec.channels, kernel=3)
        self.quantize = Quantizer(spec.codebook, spec.channels, scales, options.phis)

    @torch.no_grad()
    def encode(self, images: Tensor, generator: SampleGenerator | None = None) -> Tensor:
        with float32(images):
            return self.quantize.encode(self.map_of(images))

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Images of codes (B, L), or of a map (B, E, h, h), float, as sampling with `more_smooth` returns."""
        with float32(latents):
            f_BEhh = latents if latents.is_floating_point() else self.quantize.decode(latents)
            return self.images_of(f_BEhh)

    @torch.no_grad()
    def teacher_inputs(self, codes_BL: Tensor) -> Tensor:
        """What the generator reads to predict all scales but the first, (B, T, E), recomputed from codes."""
        with float32(codes_BL):
            return self.quantize.teacher_inputs(codes_BL)

    def own_tensors(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Official attentions hold queries, keys and values in one tensor; they are three here."""
        found: dict[str, Tensor] = {}
        for key, tensor in tensors.items():
            before, qkv, after = key.rpartition(".qkv.")
            if qkv:
                found |= {f"{before}.{name}.{after}": part for name, part in zip("qkv", tensor.chunk(3), strict=True)}
            elif key != USAGE:
                found[key] = tensor
        return found


@contextmanager
def float32(tensor: Tensor) -> Iterator[None]:
    """No autocast: in half precision the residuals of the last scales would be rounding errors."""
    with torch.autocast(tensor.device.type, enabled=False):
        yield
