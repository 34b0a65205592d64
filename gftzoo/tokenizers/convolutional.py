"""Tokenizers on the convolutional autoencoder of latent diffusion: VQ-16, KL-16, VAR's.

Suffixes: B batch, C channels, h w sides of the map. Module names are those of the official codes.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Self

from torch import Tensor, nn

from gftzoo.catalogue.cards import TokenizerSpec
from gftzoo.contract.tokenizer import Tokenizer
from gftzoo.layers.autoencoder import AutoencoderOptions, Decoder, Encoder
from gftzoo.tokenizers.options import weights_file
from gftzoo.weights import load_weights, read_tensors


class ConvolutionalTokenizer(Tokenizer):
    """Images to a map (B, C, h, w) and back; a subclass says what latents are made of the map.

    Args:
        spec: gives the channels of images and of the map.
        options: sizes of encoder and decoder.
        z_channels: what the decoder reads, behind a convolution of the map.
        moments: maps that the encoder gives for one of the decoder's: 2 for mean and variance.
        attention: levels that attend, of encoder and decoder; the lowest of each by default.
        kernel: side of the convolutions between autoencoder and map.
    """

    def __init__(
        self,
        spec: TokenizerSpec,
        options: AutoencoderOptions,
        z_channels: int,
        *,
        moments: int = 1,
        attention: tuple[Collection[int], Collection[int]] | None = None,
        kernel: int = 1,
    ) -> None:
        super().__init__(spec)
        of_encoder, of_decoder = attention or ({options.lowest}, {options.lowest})
        self.encoder = Encoder(options, spec.image_channels, moments * z_channels, of_encoder)
        self.decoder = Decoder(options, spec.image_channels, z_channels, of_decoder)
        shape: dict[str, Any] = {"kernel_size": kernel, "padding": kernel // 2}
        self.quant_conv = nn.Conv2d(moments * z_channels, moments * spec.channels, **shape)
        self.post_quant_conv = nn.Conv2d(spec.channels, z_channels, **shape)

    def map_of(self, images: Tensor) -> Tensor:
        """The map of images, (B, C, h, w), or its `moments` one behind the other."""
        return self.quant_conv(self.encoder(images))

    def images_of(self, map_BChw: Tensor) -> Tensor:
        """The images of a map."""
        return self.decoder(self.post_quant_conv(map_BChw))

    def own_tensors(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The tensors of an official file under this tokenizer's keys, without those that it has no use for."""
        return tensors

    @classmethod
    def load(cls, spec: TokenizerSpec, weights: str | None) -> Self:
        """The tokenizer, frozen, with official weights.

        They are in the local file `weights`, else in the hub file of the spec, or beside the code of the class where
        the spec names a file and no repository.

        Raises:
            UsageError: no file is named, or the spec's options are no autoencoder's.
            GftzooError: the file cannot be fetched, is damaged or holds another autoencoder.
        """
        build: Any = cls  # a subclass takes the specification alone
        tokenizer: Self = build(spec)
        beside = weights is None and spec.repo is None and spec.file is not None
        path = Path(inspect.getfile(cls)).parent / str(spec.file) if beside else weights_file(spec, weights)
        load_weights(tokenizer, dict(tokenizer.own_tensors(read_tensors(path).tensors)), str(path))
        return tokenizer.eval().requires_grad_(False)


def square_side(codes_BN: Tensor) -> int:
    """The side of the square map of codes (B, N)."""
    side = round(codes_BN.shape[1] ** 0.5)
    assert side * side == codes_BN.shape[1]
    return side
