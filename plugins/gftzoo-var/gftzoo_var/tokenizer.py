"""VAR's tokenizer: a convolutional autoencoder around multi-scale residual quantisation.

Suffixes: B batch, E width of a code vector, h side of the full map, L codes of all scales, T = L - 1.
FoundationVision/VAR, models/vqvae.py; state-dict keys are the official ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from gftzoo.errors import GftzooError, UsageError
from gftzoo.generator import SampleGenerator
from gftzoo.tokenizers import Tokenizer
from gftzoo.weights import load_weights, read_tensors
from gftzoo.zoo import TokenizerSpec, validation_sentence
from gftzoo_var.autoencoder import AutoencoderOptions, Decoder, Encoder
from gftzoo_var.quantizer import Quantizer

KIND = "multi-scale-vq"
USAGE = "quantize.ema_vocab_hit_SV"  # how often codes were used in training; read by nothing


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
        options = AutoencoderOptions.model_validate(spec.options)
        self.encoder = Encoder(options, spec.image_channels, spec.channels)
        self.decoder = Decoder(options, spec.image_channels, spec.channels)
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
    path = Path(weights) if weights is not None else _find(spec)
    try:
        tokenizer = MultiScaleVQ(spec)
    except ValueError as error:
        raise UsageError(validation_sentence(f"tokenizer {spec.id}", error, AutoencoderOptions)) from error
    tensors = {key: value for key, value in read_tensors(path).tensors.items() if key != USAGE}
    load_weights(tokenizer, tensors, str(path))
    return tokenizer


def _find(spec: TokenizerSpec) -> Path:
    from huggingface_hub import hf_hub_download

    advice = "give a local file with -o tokenizer_path=PATH, or --tokenizer-path PATH to sample"
    if spec.file is None:
        raise UsageError(f"tokenizer {spec.id!r} names no weights; {advice}.")
    if spec.repo is None:
        return Path(__file__).parent / spec.file
    try:
        return Path(hf_hub_download(spec.repo, spec.file))
    except Exception as error:  # the hub client raises many types
        raise GftzooError(
            f"{spec.file!r} could not be fetched from the hub repository {spec.repo!r} "
            f"({type(error).__name__}); {advice}."
        ) from error
