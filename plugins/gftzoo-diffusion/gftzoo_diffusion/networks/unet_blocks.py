"""How U-Nets of diffusers' blocks are made, start and run; imported where there is to be one: diffusers takes seconds.

Suffixes: B batch, C channels, H W latent sides, D width of the time's embedding.
"""

from __future__ import annotations

from typing import Any

from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from gftzoo.layers.sinusoid import SinusoidEmbedding
from gftzoo.layers.temperature import Prediction, Slope, start_slope, with_slope, zero_layer
from gftzoo_diffusion.networks.unet import UNetOptions
from gftzoo_diffusion.options import BETA_LAYERS


class ResidualConv(ResnetBlock2D):
    """diffusers' residual block, without a time of its own: a block of the slope's."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__(in_channels=width, out_channels=width, temb_channels=None, groups=groups)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return super().forward(x_BCHW, None)


def add_temperature(network: Any, options: UNetOptions, out: int, temperature: bool, vector: bool = True) -> None:
    """Adds `beta_embedder`, whose vector joins that of the time, and `slope`, as the options have them.

    No embedder without `vector`: the temperature is embedded elsewhere.
    """
    if temperature and options.embeds and vector:
        layers = BETA_LAYERS[options.beta_embedding]
        network.beta_embedder = SinusoidEmbedding(4 * options.width, options.beta_scale, layers=layers)
        nn.init.normal_(network.beta_embedder.layers[-1].weight, std=0.02)
    network.slope = None
    if temperature and options.affine:
        first = options.channels[0]
        blocks = (ResidualConv(first, options.norm_groups) for _ in range(options.temperature_blocks))
        network.slope = Slope(nn.Conv2d(first, out, 3, padding=1), blocks)
        start_slope(network)


def zero_last_layers(network: nn.Module, attention: type[nn.Module], last: str) -> None:
    """Zeroes what the official codes start at zero: the last layer of every block and of the network, in place.

    Args:
        attention: class of the blocks that attend.
        last: name of the last layer of one.
    """
    for module in network.modules():
        if isinstance(module, ResnetBlock2D):
            zero_layer(module.conv2)
        elif isinstance(module, attention):
            zero_layer(module.get_submodule(last))
    zero_layer(network.get_submodule("conv_out"))


def block_names(options: UNetOptions, attending: str, bare: str) -> dict[str, Any]:
    """The blocks' arguments of a U-Net of diffusers; `{}` in a name stands for Down and Up."""
    kinds = [attending if attends else bare for attends in options.attention]
    return {
        "block_out_channels": options.channels,
        "layers_per_block": options.layers,
        "down_block_types": tuple(kind.format("Down") for kind in kinds),
        "up_block_types": tuple(kind.format("Up") for kind in reversed(kinds)),
        "norm_num_groups": options.norm_groups,
    }


def run(network: Any, x_BCHW: Tensor, emb_BD: Tensor, context: Tensor | None = None) -> Prediction:
    """What the blocks of a diffusers U-Net make of its input, with a slope beside it where there is one."""
    hidden, skips = encode(network, x_BCHW, emb_BD, context)
    for block in network.up_blocks:
        count = len(block.resnets)
        hidden = block(hidden, skips[-count:], emb_BD, **told(block, context))
        skips = skips[:-count]
    features = network.conv_act(network.conv_norm_out(hidden))
    return with_slope(network.slope, network.conv_out(features), hidden, features)


def encode(
    network: Any, x_BCHW: Tensor, emb_BD: Tensor, context: Tensor | None = None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """What comes out of the middle, and what every block before it hands to the other side."""
    hidden = network.conv_in(x_BCHW)
    skips: tuple[Tensor, ...] = (hidden,)
    for block in network.down_blocks:
        hidden, given = block(hidden, temb=emb_BD, **told(block, context))
        skips += given
    return network.mid_block(hidden, emb_BD, **told(network.mid_block, context)), skips


def told(block: Any, context: Tensor | None) -> dict[str, Tensor]:
    """The context, where a block of diffusers attends to it."""
    attends = context is not None and getattr(block, "has_cross_attention", False)
    return {"encoder_hidden_states": context} if attends else {}  # type: ignore[dict-item]
