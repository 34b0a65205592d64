"""ViT-VQGAN's tokenizer: patches through transformers, and code vectors of unit length.

Suffixes: B batch, C channels, N positions, D width, E width of a code vector, H heads, K width of a head.
"Vector-quantized Image Modeling with Improved VQGAN" (arXiv 2110.04627), in the public code that is not its authors':
thuanz123/enhancing-transformers, modules/stage1. Names of modules are those of its files.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from gftzoo.catalogue.cards import Frozen, TokenizerSpec
from gftzoo.contract.tokenizer import Tokenizer
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator
from gftzoo.layers.codebook import nearest
from gftzoo.tokenizers import read_tokenizer_options, square_side, weights_file
from gftzoo.weights import load_weights, read_tensors


class ViTOptions(Frozen):
    """Options of the tokenizer; patches are as large as its downsampling."""

    width: int = Field(512, gt=0, description="width of the encoder")
    depth: int = Field(8, gt=0, description="blocks of the encoder")
    heads: int = Field(8, gt=0, description="attention heads of the encoder")
    hidden: int = Field(2048, gt=0, description="width of the encoder's feed-forwards")
    decoder_width: int = Field(512, gt=0, description="width of the decoder")
    decoder_depth: int = Field(8, gt=0, description="blocks of the decoder")
    decoder_heads: int = Field(8, gt=0, description="attention heads of the decoder")
    decoder_hidden: int = Field(2048, gt=0, description="width of the decoder's feed-forwards")
    head_width: int = Field(64, gt=0, description="width of an attention head, whatever the width and heads")
    side: int = Field(256, gt=0, description="pixels along a side of the images; positions are fixed")


class Attention(nn.Module):
    """Self-attention of heads of any width."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        inner, self.heads = head_width * heads, heads
        self.to_qkv = nn.Linear(width, 3 * inner, bias=False)
        self.to_out = nn.Linear(inner, width) if heads > 1 or inner != width else nn.Identity()

    def forward(self, x_BND: Tensor) -> Tensor:
        q, k, v = self.to_qkv(x_BND).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two layers with a hyperbolic tangent."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, width))

    def forward(self, x_BND: Tensor) -> Tensor:
        return self.net(x_BND)


class Normed(nn.Module):
    """A layer behind its norm, and beside its input."""

    def __init__(self, width: int, layer: nn.Module) -> None:
        super().__init__()
        self.norm, self.fn = nn.LayerNorm(width), layer

    def forward(self, x_BND: Tensor) -> Tensor:
        return x_BND + self.fn(self.norm(x_BND))


class Transformer(nn.Module):
    """Attention and feed-forward in turns, and a norm."""

    def __init__(self, width: int, depth: int, heads: int, hidden: int, head_width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [Normed(width, Attention(width, heads, head_width)), Normed(width, FeedForward(width, hidden))]
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, x_BND: Tensor) -> Tensor:
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleList)
            for part in layer:
                x_BND = part(x_BND)
        return self.norm(x_BND)


class Encoder(nn.Module):
    """Images (B, C, side, side) to vectors (B, N, D)."""

    def __init__(self, options: ViTOptions, channels: int, patch: int) -> None:
        super().__init__()
        self.en_pos_embedding = nn.Parameter(torch.zeros(1, (options.side // patch) ** 2, options.width))
        self.to_patch_embedding = nn.Sequential(nn.Conv2d(channels, options.width, patch, stride=patch))
        sizes = options.width, options.depth, options.heads, options.hidden
        self.transformer = Transformer(*sizes, options.head_width)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return self.transformer(self.to_patch_embedding(images_BCHW).flatten(2).mT + self.en_pos_embedding)


class Decoder(nn.Module):
    """Vectors (B, N, D) to images (B, C, side, side)."""

    def __init__(self, options: ViTOptions, channels: int, patch: int) -> None:
        super().__init__()
        width = options.decoder_width
        self.de_pos_embedding = nn.Parameter(torch.zeros(1, (options.side // patch) ** 2, width))
        sizes = width, options.decoder_depth, options.decoder_heads, options.decoder_hidden
        self.transformer = Transformer(*sizes, options.head_width)
        self.to_pixel = nn.Sequential(nn.Identity(), nn.ConvTranspose2d(width, channels, patch, stride=patch))

    def forward(self, x_BND: Tensor) -> Tensor:
        y_BND = self.transformer(x_BND + self.de_pos_embedding)
        return self.to_pixel(y_BND.mT.unflatten(-1, (square_side(y_BND[..., 0]), -1)))


class ViTVQGAN(Tokenizer):
    """Images to codes (B, N) and back. Vectors and what is looked up are compared at unit length."""

    def __init__(self, spec: TokenizerSpec) -> None:
        super().__init__(spec)
        assert spec.codebook is not None
        options = read_tokenizer_options(spec, ViTOptions)
        self.side = options.side
        shape = options, spec.image_channels, spec.downsample
        self.encoder, self.decoder = Encoder(*shape), Decoder(*shape)
        self.quantizer = nn.ModuleDict({"embedding": nn.Embedding(spec.codebook, spec.channels)})
        self.pre_quant = nn.Linear(options.width, spec.channels)
        self.post_quant = nn.Linear(spec.channels, options.decoder_width)

    @property
    def vectors(self) -> Tensor:
        """The code vectors (V, E), of unit length."""
        return F.normalize(self.quantizer["embedding"].get_parameter("weight"), dim=-1)

    def map_of(self, images: Tensor) -> Tensor:
        """Vectors (B, N, E), before they become codes; UsageError for images of another size than its positions."""
        if images.shape[-1] != self.side:
            raise UsageError(
                f"tokenizer {self.spec.id!r} has positions for images of {self.side} pixels and was given "
                f"{images.shape[-1]}; use -o resolution={self.side}, or another tokenizer."
            )
        return self.pre_quant(self.encoder((images + 1) / 2))

    @torch.no_grad()
    def encode(self, images: Tensor, generator: SampleGenerator | None = None) -> Tensor:
        return nearest(F.normalize(self.map_of(images), dim=-1), self.vectors)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        return self.decoder(self.post_quant(self.vectors[latents])) * 2 - 1


def load_vit_vqgan(spec: TokenizerSpec, weights: str | None) -> ViTVQGAN:
    """The tokenizer, frozen, with the public weights: a local file, or the hub file of the spec.

    Raises:
        UsageError: no file is named, or the spec's options are none of it.
        GftzooError: the file cannot be fetched, is damaged or holds another tokenizer.
    """
    path, tokenizer = weights_file(spec, weights), ViTVQGAN(spec)
    tensors = {key: tensor for key, tensor in read_tensors(path).tensors.items() if not key.startswith("loss.")}
    load_weights(tokenizer, tensors, str(path))
    return tokenizer.eval().requires_grad_(False)
