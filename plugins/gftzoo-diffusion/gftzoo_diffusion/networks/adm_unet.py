"""diffusers' UNet2DModel as ADM; imported where there is to be one, since diffusers takes seconds.

Suffixes: B batch, C channels, H W latent sides, D width of the time's embedding.
"""

from __future__ import annotations

from typing import Any

from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from gftzoo.layers.temperature import Prediction
from gftzoo_diffusion.networks.adm import ADMNetwork
from gftzoo_diffusion.networks.unet_blocks import add_temperature, block_names, run, zero_last_layers


class ADM(UNet2DModel):
    """Noise (and variance) prediction of a noised image.

    Args:
        network: hyperparameters.
        side: of the square image, that halves as often as there are levels below the first.
        channels: of the image.
        classes: without the null class, which is the index `classes`.
        temperature: whether there is a beta input.
    """

    def __init__(self, network: ADMNetwork, side: int, channels: int, classes: int, temperature: bool) -> None:
        out = channels * (2 if network.learn_sigma else 1)
        super().__init__(**arguments(network, side, channels, out))
        # The time's width is the base width's, also where the first level has another one.
        self.time_proj = Timesteps(network.width, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(network.width, 4 * network.width)
        self.class_embedding = nn.Embedding(classes + 1, 4 * network.width)
        if network.heads is not None:
            fix_heads(self, network.heads)
        zero_last_layers(self, Attention, "to_out.0")
        add_temperature(self, network, out, temperature)

    @property
    def repeated(self) -> list[nn.Module]:
        """Residual blocks and attentions."""
        return [module for module in self.modules() if isinstance(module, ResnetBlock2D | Attention)]

    def forward(self, x_BCHW: Tensor, t_B: Tensor, y_B: Tensor, beta_B: Tensor | None = None) -> Prediction:
        """The prediction (B, C or 2C, H, W) at timesteps 0..999; `beta_B` None leaves the embedded temperature out."""
        return run(self, x_BCHW, self.embed(t_B, y_B, beta_B))

    def embed(self, t_B: Tensor, y_B: Tensor, beta_B: Tensor | None = None) -> Tensor:
        """Timestep, class and temperature as one vector (B, D)."""
        emb_BD = self.time_embedding(self.time_proj(t_B)) + self.class_embedding(y_B)
        if beta_B is not None and hasattr(self, "beta_embedder"):
            return emb_BD + self.beta_embedder(beta_B)
        return emb_BD


def arguments(network: ADMNetwork, side: int, channels: int, out: int) -> dict[str, Any]:
    """Those of diffusers' class."""
    bare = "Resnet{}sampleBlock2D" if network.resample == "residual" else "{}Block2D"
    return {
        **block_names(network, "Attn{}Block2D", bare),
        "sample_size": side,
        "in_channels": channels * (1 if network.low_resolution is None else 2),
        "out_channels": out,
        "downsample_type": "resnet" if network.resample == "residual" else "conv",
        "upsample_type": "resnet" if network.resample == "residual" else "conv",
        "attention_head_dim": 1 if network.heads else network.head_width,
        "attn_norm_num_groups": network.norm_groups,
        "norm_eps": 1e-5,
        "dropout": network.dropout,
        "resnet_time_scale_shift": "scale_shift" if network.scale_shift else "default",
        "time_embedding_dim": 4 * network.width,
    }


def fix_heads(network: nn.Module, heads: int) -> None:
    """The same number of heads in every attention, in place, where diffusers fixes their width."""
    for module in network.modules():
        if isinstance(module, Attention):
            module.heads = heads
            module.scale = (module.inner_dim / heads) ** -0.5
