"""diffusers' UNet as gftzoo's network; imported where there is to be one, since diffusers takes seconds."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.errors import UsageError
from gftzoo.layers.temperature import Slope, start_slope
from gftzoo_sd.network import SDNetwork


def build_unet(card: ModelCard) -> UNet2DConditionModel:
    """The UNet of a card; `time_embedding.cond_proj` and `conv_out.slope` are its temperature inputs.

    Raises UsageError where the latent does not halve as often as the network does.
    """
    network = card.network_options(SDNetwork)
    shrink = 2 ** (len(network.channels) - 1)
    if card.grid % shrink:
        raise UsageError(
            f"{card.name}: a latent of {card.grid}x{card.grid} does not halve {len(network.channels) - 1} times; use a "
            f"-o resolution that is a multiple of {shrink * card.tokenizer.downsample}."
        )
    down = tuple("CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in network.attention)
    up = tuple("CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(network.attention))
    unet = UNet2DConditionModel(
        sample_size=card.grid,
        in_channels=card.tokenizer.channels,
        out_channels=card.tokenizer.channels,
        block_out_channels=network.channels,
        layers_per_block=network.layers,
        down_block_types=down,
        up_block_types=up,
        cross_attention_dim=network.text_width,
        attention_head_dim=network.heads,  # diffusers' old name: it counts heads
        norm_num_groups=network.norm_groups,
        time_cond_proj_dim=network.temperature_width if card.temperature and network.embeds else None,
    )
    if card.temperature and network.affine:
        unet.conv_out = SlopedConv(network, card.tokenizer.channels)
    if card.temperature and network.embeds:
        nn.init.normal_(unet.time_embedding.cond_proj.weight, std=0.02)  # from scratch; fine-tuning starts at zero
    return unet


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """The blocks of a UNet, of residual convolutions and of attention."""
    return [m for m in network.modules() if isinstance(m, (ResnetBlock2D, BasicTransformerBlock))]


class SlopedConv(nn.Conv2d):
    """The UNet's last layer and, behind its channels, those of the slope d; keys and shapes of the layer stay."""

    def __init__(self, network: SDNetwork, channels: int) -> None:
        width = network.channels[0]
        super().__init__(width, channels, 3, padding=1)
        blocks = (ResidualConv(width, network.norm_groups) for _ in range(network.temperature_blocks))
        self.slope: Slope | None = Slope(nn.Conv2d(width, channels, 3, padding=1), blocks)
        start_slope(self)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's name)
        noise = super().forward(input)
        return noise if self.slope is None else torch.cat([noise, self.slope(input, input)], dim=1)


class ResidualConv(ResnetBlock2D):
    """diffusers' residual block, without a timestep of its own: a block of the slope's."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__(in_channels=width, out_channels=width, temb_channels=None, groups=groups)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return super().forward(x_BCHW, None)
