"""KL-16, MAR's tokenizer: a convolutional autoencoder with a Gaussian latent, sixteen times smaller than the image.

Suffixes: B batch, C channels, H height, W width, S = H W. "High-Resolution Image Synthesis with Latent
Diffusion Models" (arXiv 2112.10752); module names are those of LTH14/mar, models/vae.py, so that its file loads as it
is.
"""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from gftzoo.errors import GftzooError, UsageError
from gftzoo.generator import SampleGenerator
from gftzoo.tokenizers import Tokenizer
from gftzoo.weights import load_weights, read_tensors
from gftzoo.zoo import Frozen, TokenizerSpec

OWN = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")


class KLOptions(Frozen):
    """Sizes of the autoencoder; the defaults are KL-16's."""

    width: int = Field(128, description="channels of the first level")
    multipliers: tuple[int, ...] = Field((1, 1, 2, 2, 4), description="width of each level in units of the first")
    blocks: int = Field(2, description="residual blocks of a level of the encoder")
    attention: tuple[int, ...] = Field((4,), description="levels of the encoder with attention")


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)


class ResBlock(nn.Module):
    """Two normalised convolutions and a shortcut."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(before), nn.Conv2d(before, after, 3, padding=1)
        self.norm2, self.conv2 = _norm(after), nn.Conv2d(after, after, 3, padding=1)
        if before != after:
            self.nin_shortcut = nn.Conv2d(before, after, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        h_BCHW = self.conv1(F.silu(self.norm1(x_BCHW)))
        h_BCHW = self.conv2(F.silu(self.norm2(h_BCHW)))
        return h_BCHW + (self.nin_shortcut(x_BCHW) if hasattr(self, "nin_shortcut") else x_BCHW)


class Attention(nn.Module):
    """Self-attention with one head over all positions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.q, self.k, self.v = (nn.Conv2d(channels, channels, 1) for _ in range(3))
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        h_BCHW = self.norm(x_BCHW)
        q_BSC, k_BSC, v_BSC = (p(h_BCHW).flatten(2).transpose(1, 2) for p in (self.q, self.k, self.v))
        out_BSC = F.scaled_dot_product_attention(q_BSC, k_BSC, v_BSC)
        return x_BCHW + self.proj_out(out_BSC.transpose(1, 2).unflatten(2, x_BCHW.shape[2:]))


class Resample(nn.Module):
    """Twice as large (nearest neighbour, then a convolution) or half as large (a convolution of stride 2)."""

    def __init__(self, channels: int, up: bool) -> None:
        super().__init__()
        self.up = up
        self.conv = nn.Conv2d(channels, channels, 3, 1 if up else 2, 1 if up else 0)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if self.up:
            return self.conv(F.interpolate(x_BCHW, scale_factor=2.0, mode="nearest"))
        return self.conv(F.pad(x_BCHW, (0, 1, 0, 1)))


class Level(nn.Module):
    """Residual blocks of one resolution, with attention after each where there is any."""

    def __init__(self, before: int, after: int, blocks: int, attention: bool) -> None:
        super().__init__()
        self.block = nn.ModuleList(ResBlock(before if i == 0 else after, after) for i in range(blocks))
        self.attn = nn.ModuleList(Attention(after) for _ in range(blocks if attention else 0))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        for i, block in enumerate(self.block):
            x_BCHW = block(x_BCHW)
            if self.attn:
                x_BCHW = self.attn[i](x_BCHW)
        return x_BCHW


class Middle(nn.Module):
    """The lowest resolution: block, attention, block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1, self.block_2 = ResBlock(channels, channels), ResBlock(channels, channels)
        self.attn_1 = Attention(channels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x_BCHW)))


class Encoder(nn.Module):
    """Images to mean and log variance, (B, 3, H, W) -> (B, 2C, h, w)."""

    def __init__(self, options: KLOptions, image_channels: int, channels: int) -> None:
        super().__init__()
        widths = [options.width * m for m in options.multipliers]
        self.conv_in = nn.Conv2d(image_channels, options.width, 3, padding=1)
        self.down = nn.ModuleList()
        for i, (before, after) in enumerate(zip([options.width, *widths], widths, strict=False)):
            level = Level(before, after, options.blocks, i in options.attention)
            if i < len(widths) - 1:
                level.downsample = Resample(after, up=False)
            self.down.append(level)
        self.mid = Middle(widths[-1])
        self.norm_out, self.conv_out = _norm(widths[-1]), nn.Conv2d(widths[-1], 2 * channels, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.conv_in(x_BCHW)
        for level in self.down:
            x_BCHW = level(x_BCHW)
            if hasattr(level, "downsample"):
                x_BCHW = level.downsample(x_BCHW)
        return self.conv_out(F.silu(self.norm_out(self.mid(x_BCHW))))


class Decoder(nn.Module):
    """Latents to images, (B, C, h, w) -> (B, 3, H, W); attention in the middle only, one block more a level."""

    def __init__(self, options: KLOptions, image_channels: int, channels: int) -> None:
        super().__init__()
        widths = [options.width * m for m in options.multipliers]
        self.conv_in = nn.Conv2d(channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1])
        self.up = nn.ModuleList()  # indexed like the encoder's levels, and run from the last to the first
        for i, after in enumerate(widths):
            level = Level(widths[min(i + 1, len(widths) - 1)], after, options.blocks + 1, attention=False)
            if i > 0:
                level.upsample = Resample(after, up=True)
            self.up.append(level)
        self.norm_out, self.conv_out = _norm(widths[0]), nn.Conv2d(widths[0], image_channels, 3, padding=1)

    def forward(self, z_BCHW: Tensor) -> Tensor:
        x_BCHW = self.mid(self.conv_in(z_BCHW))
        for level in reversed(self.up):
            x_BCHW = level(x_BCHW)
            if hasattr(level, "upsample"):
                x_BCHW = level.upsample(x_BCHW)
        return self.conv_out(F.silu(self.norm_out(x_BCHW)))


class KL16(Tokenizer):
    """The autoencoder as a tokenizer: latents sampled from the posterior and scaled by `spec.scale` (0.2325)."""

    def __init__(self, spec: TokenizerSpec) -> None:
        super().__init__(spec)
        options = KLOptions.model_validate(spec.options)
        self.encoder = Encoder(options, spec.image_channels, spec.channels)
        self.decoder = Decoder(options, spec.image_channels, spec.channels)
        self.quant_conv = nn.Conv2d(2 * spec.channels, 2 * spec.channels, 1)
        self.post_quant_conv = nn.Conv2d(spec.channels, spec.channels, 1)
        self.eval().requires_grad_(False)

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance (B, C, h, w) of the latent of images in [-1, 1]."""
        mean_BCHW, log_variance_BCHW = self.quant_conv(self.encoder(images)).chunk(2, 1)
        return mean_BCHW, log_variance_BCHW.clamp(-30, 20)

    @torch.no_grad()
    def encode(self, images: Tensor, generator: SampleGenerator | None = None) -> Tensor:
        z_BCHW, log_variance_BCHW = self.posterior(images)
        if generator is not None:
            z_BCHW = z_BCHW + (0.5 * log_variance_BCHW).exp() * generator.normal(*z_BCHW.shape[1:])
        return (z_BCHW - self.spec.shift) * self.spec.scale

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        return self.decoder(self.post_quant_conv(latents / self.spec.scale + self.spec.shift))


def load_kl16(spec: TokenizerSpec, weights: str | None) -> KL16:
    """The autoencoder with official weights: a local `kl16.ckpt` (or `.safetensors`), or the hub file of the spec.

    Raises:
        UsageError: no file is named.
        GftzooError: the file cannot be fetched, is damaged or holds another autoencoder.
    """
    path = Path(weights) if weights is not None else _fetch(spec)
    tokenizer = KL16(spec)
    tensors = read_tensors(path).tensors
    load_weights(tokenizer, {key: value for key, value in tensors.items() if key.startswith(OWN)}, str(path))
    return tokenizer


def _fetch(spec: TokenizerSpec) -> Path:
    from huggingface_hub import hf_hub_download

    advice = "give a local kl16.ckpt with -o tokenizer_path=PATH, or train in pixels with -o tokenizer=pixels"
    if spec.repo is None or spec.file is None:
        raise UsageError(f"tokenizer {spec.id!r} names no weights; {advice}.")
    try:
        return Path(hf_hub_download(spec.repo, spec.file))
    except Exception as error:  # the hub client raises many types
        raise GftzooError(
            f"{spec.file!r} could not be fetched from the hub repository {spec.repo!r} "
            f"({type(error).__name__}); {advice}."
        ) from error
