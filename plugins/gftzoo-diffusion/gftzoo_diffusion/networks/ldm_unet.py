"""diffusers' UNet2DConditionModel as LDM; imported where there is to be one, since diffusers takes seconds.

Suffixes: B batch, C channels, H W latent sides, D width of the time's embedding.
"""

from __future__ import annotations

from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn

from gftzoo.layers.sinusoid import SINUSOID, sinusoid
from gftzoo.layers.temperature import Prediction
from gftzoo_diffusion.networks.ldm import LDMNetwork
from gftzoo_diffusion.networks.unet_blocks import add_temperature, block_names, run, zero_last_layers


class LDM(UNet2DConditionModel):
    """Noise prediction of a noised latent, whose class is a token that is attended to.

    Args:
        network: hyperparameters.
        side: of the square latent, that halves as often as there are levels below the first.
        channels: of the latent.
        classes: without the null class, which is the index `classes`.
        temperature: whether there is a beta input.
    """

    def __init__(self, network: LDMNetwork, side: int, channels: int, classes: int, temperature: bool) -> None:
        projected = temperature and network.embeds and network.beta_embedding == "linear"
        super().__init__(
            **block_names(network, "CrossAttn{}Block2D", "{}Block2D"),
            sample_size=side,
            in_channels=channels,
            out_channels=channels,
            cross_attention_dim=network.context,
            attention_head_dim=network.heads,  # diffusers' old name: it counts heads
            time_cond_proj_dim=2 * SINUSOID if projected else None,
        )
        self.class_embedder = nn.Embedding(classes + 1, network.context)
        self.beta_scale = network.beta_scale
        zero_last_layers(self, Transformer2DModel, "proj_out")
        add_temperature(self, network, channels, temperature, vector=not projected)
        if projected:
            nn.init.normal_(self.time_embedding.cond_proj.weight, std=0.02)

    @property
    def repeated(self) -> list[nn.Module]:
        """Residual blocks and transformer blocks."""
        return [module for module in self.modules() if isinstance(module, ResnetBlock2D | BasicTransformerBlock)]

    def forward(self, x_BCHW: Tensor, t_B: Tensor, y_B: Tensor, beta_B: Tensor | None = None) -> Prediction:
        """The noise (B, C, H, W) at timesteps 0..999; `beta_B` None leaves the embedded temperature out."""
        return run(self, x_BCHW, self.embed(t_B, beta_B), self.class_embedder(y_B)[:, None])

    def embed(self, t_B: Tensor, beta_B: Tensor | None = None) -> Tensor:
        """Timestep and temperature as one vector (B, D)."""
        features = self.time_proj(t_B)
        if beta_B is None:
            return self.time_embedding(features)
        if self.time_embedding.cond_proj is not None:
            return self.time_embedding(features, sinusoid(self.beta_scale * beta_B.float(), 2 * SINUSOID))
        emb_BD = self.time_embedding(features)
        return emb_BD + self.beta_embedder(beta_B) if hasattr(self, "beta_embedder") else emb_BD
