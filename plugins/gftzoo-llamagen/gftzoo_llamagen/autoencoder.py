"""The convolutional encoder and decoder of VQ-16 and VQ-8.

Suffix: B batch, C channels. The modules' names and order are those of the official files: a decoder's `conv_blocks` go
in the order in which they run, from the lowest resolution up.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F


def norm(channels: int) -> nn.GroupNorm:
    """The normalisation before every convolution."""
    return nn.GroupNorm(32, channels, eps=1e-6)


class ResBlock(nn.Module):
    """Two convolutions beside a shortcut, which is a 1x1 convolution where the channels change."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(before), nn.Conv2d(before, after, 3, padding=1)
        self.norm2, self.conv2 = norm(after), nn.Conv2d(after, after, 3, padding=1)
        if before != after:
            self.nin_shortcut = nn.Conv2d(before, after, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        h_BCHW = self.conv1(F.silu(self.norm1(x_BCHW)))
        h_BCHW = self.conv2(F.silu(self.norm2(h_BCHW)))
        return h_BCHW + (self.nin_shortcut(x_BCHW) if hasattr(self, "nin_shortcut") else x_BCHW)


class Attention(nn.Module):
    """Single-head attention over the positions of the map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        h_BCHW = self.norm(x_BCHW)
        q, k, v = (project(h_BCHW).flatten(2).transpose(1, 2) for project in (self.q, self.k, self.v))
        y_BLC = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        return x_BCHW + self.proj_out(y_BLC.transpose(1, 2).reshape_as(h_BCHW))


class Downsample(nn.Module):
    """Half the size; the padding is on the right and below only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.conv(F.pad(x_BCHW, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Twice the size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.conv(F.interpolate(x_BCHW, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """The blocks of one resolution, each followed by attention where there is any."""

    def __init__(self, before: int, after: int, blocks: int, attention: bool) -> None:
        super().__init__()
        widths = [before, *[after] * blocks]
        self.res = nn.ModuleList(ResBlock(*pair) for pair in pairwise(widths))
        self.attn = nn.ModuleList(Attention(after) for _ in range(blocks if attention else 0))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        for index, block in enumerate(self.res):
            x_BCHW = block(x_BCHW)
            if self.attn:
                x_BCHW = self.attn[index](x_BCHW)
        return x_BCHW


def middle(channels: int) -> nn.ModuleList:
    """Block, attention, block at the lowest resolution."""
    return nn.ModuleList([ResBlock(channels, channels), Attention(channels), ResBlock(channels, channels)])


class Encoder(nn.Module):
    """Images (B, 3, H, W) to a map (B, z_channels, h, w)."""

    def __init__(self, image_channels: int, width: int, multipliers: tuple[int, ...], blocks: int, z: int) -> None:
        super().__init__()
        widths = [width, *(width * m for m in multipliers)]
        self.conv_in = nn.Conv2d(image_channels, width, 3, padding=1)
        self.conv_blocks = nn.ModuleList()
        for index, (before, after) in enumerate(pairwise(widths), start=1):
            lowest = index == len(multipliers)
            level = Level(before, after, blocks, attention=lowest)
            if not lowest:
                level.downsample = Downsample(after)
            self.conv_blocks.append(level)
        self.mid = middle(widths[-1])
        self.norm_out, self.conv_out = norm(widths[-1]), nn.Conv2d(widths[-1], z, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.conv_in(x_BCHW)
        for level in self.conv_blocks:
            x_BCHW = level(x_BCHW)
            if hasattr(level, "downsample"):
                x_BCHW = level.downsample(x_BCHW)
        for layer in self.mid:
            x_BCHW = layer(x_BCHW)
        return self.conv_out(F.silu(self.norm_out(x_BCHW)))


class Decoder(nn.Module):
    """A map (B, z_channels, h, w) to images (B, 3, H, W)."""

    def __init__(self, image_channels: int, width: int, multipliers: tuple[int, ...], blocks: int, z: int) -> None:
        super().__init__()
        widths = [width * m for m in reversed(multipliers)]
        self.conv_in = nn.Conv2d(z, widths[0], 3, padding=1)
        self.mid = middle(widths[0])
        self.conv_blocks = nn.ModuleList()
        for index, (before, after) in enumerate(pairwise([widths[0], *widths])):
            level = Level(before, after, blocks + 1, attention=index == 0)
            if index < len(widths) - 1:
                level.upsample = Upsample(after)
            self.conv_blocks.append(level)
        self.norm_out, self.conv_out = norm(widths[-1]), nn.Conv2d(widths[-1], image_channels, 3, padding=1)

    def forward(self, z_BCHW: Tensor) -> Tensor:
        x_BCHW = self.conv_in(z_BCHW)
        for layer in self.mid:
            x_BCHW = layer(x_BCHW)
        for level in self.conv_blocks:
            x_BCHW = level(x_BCHW)
            if hasattr(level, "upsample"):
                x_BCHW = level.upsample(x_BCHW)
        return self.conv_out(F.silu(self.norm_out(x_BCHW)))
