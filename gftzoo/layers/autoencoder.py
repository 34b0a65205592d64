"""The convolutional encoder and decoder of latent diffusion, which VQ-16, KL-16 and VAR's tokenizer share.

Suffixes: B batch, C channels, S = H W positions. "High-Resolution Image Synthesis with Latent Diffusion Models"
(arXiv 2112.10752); module names are those of CompVis/latent-diffusion, ldm/modules/diffusionmodules/model.py. A level
is one resolution, counted from the full one: `down` runs from the first to the last, `up` from the last to the first.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from gftzoo.catalogue.cards import Frozen


class AutoencoderOptions(Frozen):
    """Sizes of an encoder and its decoder."""

    width: int = Field(128, gt=0, description="channels at full resolution")
    multipliers: tuple[int, ...] = Field((1, 1, 2, 2, 4), description="of the width, one for each resolution")
    blocks: int = Field(2, gt=0, description="residual blocks of a resolution; the decoder has one more")
    groups: int = Field(32, gt=0, description="groups of the normalisation")

    @property
    def widths(self) -> list[int]:
        """Channels of each level."""
        return [self.width * multiplier for multiplier in self.multipliers]

    @property
    def lowest(self) -> int:
        """The level of the lowest resolution."""
        return len(self.multipliers) - 1


class ResBlock(nn.Module):
    """Two normalised convolutions beside a shortcut, which is a 1x1 convolution where the channels change."""

    def __init__(self, before: int, after: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups, before, eps=1e-6), nn.Conv2d(before, after, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(groups, after, eps=1e-6), nn.Conv2d(after, after, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        h_BCHW = self.conv1(F.silu(self.norm1(x_BCHW)))
        return self.nin_shortcut(x_BCHW) + self.conv2(F.silu(self.norm2(h_BCHW)))


class Attention(nn.Module):
    """Self-attention of one head over all positions."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        h_BCHW = self.norm(x_BCHW)
        q_BSC, k_BSC, v_BSC = (project(h_BCHW).flatten(2).transpose(1, 2) for project in (self.q, self.k, self.v))
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
    """The blocks of one resolution, each followed by attention where there is any, and the step to the next."""

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
    """Images (B, image_channels, H, W) to a map (B, z_channels, h, w); `attention` names the levels that attend."""

    def __init__(
        self, options: AutoencoderOptions, image_channels: int, z_channels: int, attention: Collection[int]
    ) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(image_channels, options.width, 3, padding=1)
        self.down = nn.ModuleList()
        for index, (before, after) in enumerate(pairwise([options.width, *options.widths])):
            level = Level(before, after, options.blocks, options.groups, index in attention)
            if index < options.lowest:
                level.downsample = Downsample(after)
            self.down.append(level)
        last = options.widths[-1]
        self.mid = Middle(last, options.groups)
        self.norm_out = nn.GroupNorm(options.groups, last, eps=1e-6)
        self.conv_out = nn.Conv2d(last, z_channels, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.conv_in(x_BCHW)
        for level in self.down:
            x_BCHW = level(x_BCHW)
        return self.conv_out(F.silu(self.norm_out(self.mid(x_BCHW))))


class Decoder(nn.Module):
    """A map (B, z_channels, h, w) to images (B, image_channels, H, W); `attention` names the levels that attend."""

    def __init__(
        self, options: AutoencoderOptions, image_channels: int, z_channels: int, attention: Collection[int]
    ) -> None:
        super().__init__()
        widths = options.widths
        self.conv_in = nn.Conv2d(z_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1], options.groups)
        self.up = nn.ModuleList()
        for index, after in enumerate(widths):
            before = widths[min(index + 1, options.lowest)]
            level = Level(before, after, options.blocks + 1, options.groups, index in attention)
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
