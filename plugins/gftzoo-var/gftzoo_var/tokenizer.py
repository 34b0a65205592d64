"""VAR's tokenizer: a convolutional autoencoder around multi-scale residual quantisation.

Suffixes: B batch, E width of a code vector, h side of the full map, L codes of all scales, T = L - 1.
FoundationVision/VAR, models/vqvae.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor, nn

from gftzoo.catalogue.cards import TokenizerSpec
from gftzoo.contract.tokenizer import Tokenizer
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator
from gftzoo.layers.autoencoder import AutoencoderOptions, Decoder, Encoder
from gftzoo.tokenizers import read_tokenizer_options, weights_file
from gftzoo.weights import load_weights, read_tensors
from gftzoo_var.quantizer import Quantizer

KIND = "multi-scale-vq"
USAGE = "quantize.ema_vocab_hit_SV"  # how often codes were used in training; read by nothing


class MultiScaleVQOptions(AutoencoderOptions):
    """Options of the tokenizer; the defaults are those of the released one."""

    width: int = Field(160, gt=0, description="channels at full resolution")
    phis: int = Field(4, gt=0, description="phi convolutions, each shared by neighbouring scales")


class MultiScaleVQ(Tokenizer):
    """Images to codes (B, L), all scales one after the other, and back. Computes in float32 whatever the autocast.

    Raises UsageError for a spec without codebook or scales, or whose scales do not rise from 1.
    """

    def __init__(self, spec: TokenizerSpec) -> None:
        super().__init__(spec)
        scales = spec.scales or ()
        if spec.codebook is None or scales[:1] != (1,) or list(scales) != sorted(set(scales)):
            raise UsageError(
                f"tokenizer {spec.id!r} of kind {KIND!r} has codebook={spec.codebook} and scales={spec.scales}; "
                "it needs a codebook and scales that rise from 1, such as scales: [1, 2, 4]."
            )
        options = read_tokenizer_options(spec, MultiScaleVQOptions)
        shape = (options, spec.image_channels, spec.channels, {options.lowest})
        self.encoder, self.decoder = Encoder(*shape), Decoder(*shape)
        self.quantize = Quantizer(spec.codebook, spec.channels, scales, options.phis)
        self.quant_conv = nn.Conv2d(spec.channels, spec.channels, 3, padding=1)
        self.post_quant_conv = nn.Conv2d(spec.channels, spec.channels, 3, padding=1)
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def encode(self, images: Tensor, generator: SampleGenerator | None = None) -> Tensor:
        with float32(images):
            return self.quantize.encode(self.quant_conv(self.encoder(images)))

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Images of codes (B, L), or of a map (B, E, h, h), float, as sampling with `more_smooth` returns."""
        with float32(latents):
            f_BEhh = latents if latents.is_floating_point() else self.quantize.decode(latents)
            return self.decoder(self.post_quant_conv(f_BEhh))

    @torch.no_grad()
    def teacher_inputs(self, codes_BL: Tensor) -> Tensor:
        """What the generator reads to predict all scales but the first, (B, T, E), recomputed from codes."""
        with float32(codes_BL):
            return self.quantize.teacher_inputs(codes_BL)


@contextmanager
def float32(tensor: Tensor) -> Iterator[None]:
    """No autocast: in half precision the residuals of the last scales would be rounding errors."""
    with torch.autocast(tensor.device.type, enabled=False):
        yield


def load_tokenizer(spec: TokenizerSpec, weights: str | None) -> MultiScaleVQ:
    """The tokenizer with weights: a local file, the file beside this code, or the hub file of the spec.

    Raises:
        UsageError: no file is named, or the spec's options are not the autoencoder's.
        GftzooError: the file cannot be fetched, is damaged or holds another autoencoder.
    """
    shipped = weights is None and spec.repo is None and spec.file is not None
    path = Path(__file__).parent / str(spec.file) if shipped else weights_file(spec, weights)
    tokenizer = MultiScaleVQ(spec)
    load_weights(tokenizer, dict(_split(read_tensors(path).tensors)), str(path))
    return tokenizer


def _split(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Official tensors under the keys of `gftzoo.layers.autoencoder`, whose queries, keys and values are three."""
    for key, tensor in tensors.items():
        before, qkv, after = key.rpartition(".qkv.")
        if qkv:
            yield from ((f"{before}.{name}.{after}", part) for name, part in zip("qkv", tensor.chunk(3), strict=True))
        elif key != USAGE:
            yield key, tensor
