"""The convolutional encoders and decoders of the tokenizers: MaskGIT's VQGAN, MaskBit's VQGAN+, Open-MAGVIT2's.

Suffixes: B batch, C channels, Z channels of the quantised map. None attends, and the convolutions of their blocks have
no bias. "MaskGIT" (arXiv 2202.04200), maskgit/nets/vqgan_tokenizer.py; "MaskBit" (arXiv 2409.16211),
modeling/modules/autoencoder.py; "Open-MAGVIT2" (arXiv 2409.04410), modules/diffusionmodules/improved_model.py.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from gftzoo.layers.autoencoder import AutoencoderOptions, Downsample, Upsample

EPS = 1e-6


class ConvOptions(AutoencoderOptions):
    """Options of a tokenizer's autoencoder; both halves have `blocks` residual blocks at a resolution."""

    middle: int = Field(2, gt=0, description="residual blocks between encoder, or decoder, and code")
    down: Literal["average", "same", "symmetric"] = Field(
        "average", description="half the side by averaging, or by a convolution padded behind, or on both sides"
    )
    shortcut: Literal["output", "input"] = Field(
        "output", description="what a shortcut that changes the channels is of: a block's output, or its input"
    )
    adaptive: bool = Field(
        False, description="the decoder is normalised by each image's codes, and enlarges by rearranging channels"
    )


class ResBlock(nn.Module):
    """Two normalised convolutions beside a shortcut.

    Where the channels change, MaskGIT's shortcut is a 1x1 convolution of what the two convolutions gave (`of_output`),
    so that the block's input is not added at all.
    """

    def __init__(self, before: int, after: int, groups: int, of_output: bool) -> None:
        super().__init__()
        self.of_output = of_output
        self.norm1 = nn.GroupNorm(groups, before, eps=EPS)
        self.conv1 = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(groups, after, eps=EPS)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        shortcut = nn.Conv2d(after if of_output else before, after, 1, bias=False)
        self.nin_shortcut = shortcut if before != after else None

    def forward(self, x_BCHW: Tensor) -> Tensor:
        h_BCHW = self.conv1(F.silu(self.norm1(x_BCHW)))
        h_BCHW = self.conv2(F.silu(self.norm2(h_BCHW)))
        if self.nin_shortcut is None:
            return x_BCHW + h_BCHW
        return self.nin_shortcut(h_BCHW if self.of_output else x_BCHW) + h_BCHW


class DepthToSpace(nn.Module):
    """Twice the side: a convolution to four times the channels, which become blocks of two by two."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 4 * channels, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        blocks_B22CHW = self.conv1(x_BCHW).unflatten(1, (2, 2, -1))
        return blocks_B22CHW.permute(0, 3, 4, 1, 5, 2).flatten(4).flatten(2, 3)


class AdaptiveNorm(nn.Module):
    """A normalisation whose gain and offset come from the deviation and the mean of each channel of an image's map."""

    def __init__(self, z_channels: int, channels: int, groups: int) -> None:
        super().__init__()
        self.gn = nn.GroupNorm(groups, channels, eps=EPS, affine=False)
        self.gamma, self.beta = nn.Linear(z_channels, channels), nn.Linear(z_channels, channels)

    def forward(self, x_BCHW: Tensor, z_BZhw: Tensor) -> Tensor:
        z_BZN = z_BZhw.flatten(2)
        gain_BC, offset_BC = self.gamma((z_BZN.var(-1) + EPS).sqrt()), self.beta(z_BZN.mean(-1))
        return gain_BC[..., None, None] * self.gn(x_BCHW) + offset_BC[..., None, None]


class Level(nn.Module):
    """The blocks of one resolution, and the step to the next."""

    def __init__(self, before: int, after: int, options: ConvOptions) -> None:
        super().__init__()
        widths = [before, *[after] * options.blocks]
        of_output = options.shortcut == "output"
        self.block = nn.ModuleList(ResBlock(*pair, options.groups, of_output) for pair in pairwise(widths))
        self.downsample: nn.Module = nn.Identity()
        self.upsample: nn.Module = nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        for block in self.block:
            x_BCHW = block(x_BCHW)
        return self.upsample(self.downsample(x_BCHW))


def middle(channels: int, options: ConvOptions) -> nn.Sequential:
    """The blocks at the lowest resolution."""
    of_output = options.shortcut == "output"
    return nn.Sequential(*(ResBlock(channels, channels, options.groups, of_output) for _ in range(options.middle)))


def build_down(channels: int, options: ConvOptions) -> nn.Module:
    """Half the side."""
    if options.down == "average":
        return nn.AvgPool2d(2)
    return Downsample(channels) if options.down == "same" else nn.Conv2d(channels, channels, 3, stride=2, padding=1)


class Encoder(nn.Module):
    """Images (B, image_channels, H, W) to a map (B, Z, h, w)."""

    def __init__(self, options: ConvOptions, image_channels: int, z_channels: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(image_channels, options.width, 3, padding=1, bias=False)
        self.down = nn.ModuleList()
        for index, (before, after) in enumerate(pairwise([options.width, *options.widths])):
            level = Level(before, after, options)
            if index < options.lowest:
                level.downsample = build_down(after, options)
            self.down.append(level)
        last = options.widths[-1]
        self.mid = middle(last, options)
        self.norm_out = nn.GroupNorm(options.groups, last, eps=EPS)
        self.conv_out = nn.Conv2d(last, z_channels, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.conv_in(x_BCHW)
        for level in self.down:
            x_BCHW = level(x_BCHW)
        return self.conv_out(F.silu(self.norm_out(self.mid(x_BCHW))))


class Decoder(nn.Module):
    """A quantised map (B, Z, h, w) to images (B, image_channels, H, W); `up` counts levels from the full resolution."""

    def __init__(self, options: ConvOptions, image_channels: int, z_channels: int) -> None:
        super().__init__()
        widths = options.widths
        self.conv_in = nn.Conv2d(z_channels, widths[-1], 3, padding=1)
        self.mid = middle(widths[-1], options)
        self.up, self.adaptive = nn.ModuleList(), nn.ModuleList()
        for index, after in enumerate(widths):
            before = widths[min(index + 1, options.lowest)]
            level = Level(before, after, options)
            if index > 0:
                level.upsample = DepthToSpace(after) if options.adaptive else Upsample(after)
            self.up.append(level)
            if options.adaptive:
                self.adaptive.append(AdaptiveNorm(z_channels, before, options.groups))
        self.norm_out = nn.GroupNorm(options.groups, widths[0], eps=EPS)
        self.conv_out = nn.Conv2d(widths[0], image_channels, 3, padding=1)

    def forward(self, z_BZhw: Tensor) -> Tensor:
        x_BCHW = self.mid(self.conv_in(z_BZhw))
        for index in reversed(range(len(self.up))):
            if self.adaptive:
                x_BCHW = self.adaptive[index](x_BCHW, z_BZhw)
            x_BCHW = self.up[index](x_BCHW)
        return self.conv_out(F.silu(self.norm_out(x_BCHW)))
