"""The convolutional encoder and decoder of VAR's tokenizer.

Suffixes: B batch, C channels, S = H W positions. Module names are those of FoundationVision/VAR, models/basic_vae.py,
so that its file loads as it is; `decoder.up` counts from the full resolution and runs from the last to the first.
"""

from __future__ import annotations

from itertools import pairwise

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from gftzoo.zoo import Frozen


class AutoencoderOptions(Frozen):
    """Sizes of the autoencoder and number of phi convolutions; the defaults are those of the released tokenizer."""

    width: int = Field(160, gt=0, description="channels at full resolution")
    multipliers: tuple[int, ...] = Field((1, 1, 2, 2, 4), description="of the width, one for each resolution")
    blocks: int = Field(2, gt=0, description="residual blocks of a resolution; the decoder has one more")
    groups: int = Field(32, gt=0, description="groups of the normalisation")
    phis: int = Field(4, gt=0, description="phi convolutions, each shared by neighbouring scales")


class ResBlock(nn.Module):
    """Two normalised convolutions and a shortcut, a 1x1 convolution where the channels change."""

    def __init__(self, before: int, after: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups, before, eps=1e-6), nn.Conv2d(before, after, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(groups, after, eps=1e-6), nn.Conv2d(after, after, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        h_BCHW = self.conv1(F.silu(self.norm1(x_BCHW)))
        return self.nin_shortcut(x_BCHW) + self.conv2(F.silu(self.norm2(h_BCHW)))


class Attention(nn.Module):
    """Self-attention of one head over all positions; queries, keys and values come from one 1x1 convolution."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        qkv_BCS = self.qkv(self.norm(x_BCHW)).flatten(2)
        q_BSC, k_BSC, v_BSC = qkv_BCS.transpose(1, 2).chunk(3, dim=-1)
        y_BSC = F.scaled_dot_product_attention(q_BSC[:, None], k_BSC[:, None], v_BSC[:, None])[:, 0]
        return x_BCHW + self.proj_out(y_BSC.transpose(1, 2).reshape_as(x_BCHW))


class Downsample(nn.Module):
    """Half the side; the padding is on the right and below only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.conv(F.pad(x_BCHW, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Twice the side."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.conv(F.interpolate(x_BCHW, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """The blocks of one resolution, each followed by attention at the lowest one, and the step to the next."""

    def __init__(self, before: int, after: int, blocks: int, groups: int, attention: bool) -> None:
        super().__init__()
        widths = [before, *[after] * blocks]
        self.block = nn.ModuleList(ResBlock(*pair, groups) for pair in pairwise(widths))
        self.attn = nn.ModuleList(Attention(after, groups) for _ in range(blocks if attention else 0))
        self.downsample: nn.Module = nn.Identity()
        self.upsample: nn.Module = nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        for index, block in enumerate(self.block):
            x_BCHW = block(x_BCHW)
            if self.attn:
                x_BCHW = self.attn[index](x_BCHW)
        return self.upsample(self.downsample(x_BCHW))


class Middle(nn.Module):
    """Block, attention, block at the lowest resolution."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.block_1 = ResBlock(channels, channels, groups)
        self.attn_1 = Attention(channels, groups)
        self.block_2 = ResBlock(channels, channels, groups)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x_BCHW)))


class Encoder(nn.Module):
    """Images (B, C, H, W) to a map (B, z, h, w)."""

    def __init__(self, options: AutoencoderOptions, image_channels: int, z: int) -> None:
        super().__init__()
        widths = [options.width, *(options.width * m for m in options.multipliers)]
        last = len(options.multipliers) - 1
        self.conv_in = nn.Conv2d(image_channels, options.width, 3, padding=1)
        self.down = nn.ModuleList()
        for index, (before, after) in enumerate(pairwise(widths)):
            level = Level(before, after, options.blocks, options.groups, attention=index == last)
            if index < last:
                level.downsample = Downsample(after)
            self.down.append(level)
        self.mid = Middle(widths[-1], options.groups)
        self.norm_out = nn.GroupNorm(options.groups, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], z, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.conv_in(x_BCHW)
        for level in self.down:
            x_BCHW = level(x_BCHW)
        return self.conv_out(F.silu(self.norm_out(self.mid(x_BCHW))))


class Decoder(nn.Module):
    """A map (B, z, h, w) to images (B, C, H, W)."""

    def __init__(self, options: AutoencoderOptions, image_channels: int, z: int) -> None:
        super().__init__()
        widths = [options.width * m for m in options.multipliers]
        last = len(widths) - 1
        self.conv_in = nn.Conv2d(z, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1], options.groups)
        self.up = nn.ModuleList()
        for index, after in enumerate(widths):
            before = widths[min(index + 1, last)]
            level = Level(before, after, options.blocks + 1, options.groups, attention=index == last)
            if index > 0:
                level.upsample = Upsample(after)
            self.up.append(level)
        self.norm_out = nn.GroupNorm(options.groups, widths[0], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[0], image_channels, 3, padding=1)

    def forward(self, z_BCHW: Tensor) -> Tensor:
        x_BCHW = self.mid(self.conv_in(z_BCHW))
        for level in reversed(self.up):
            x_BCHW = level(x_BCHW)
        return self.conv_out(F.silu(self.norm_out(x_BCHW)))
