"""DiT, the diffusion transformer (Peebles & Xie, arXiv 2212.09748), with GFT's temperature input (arXiv 2501.15420).

SiT (arXiv 2401.08740) is the same network on the process `flow`. Module names are those of the official state dicts.
Suffixes: B batch, C channels, H W latent sides, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.hookspecs import hookimpl
from gftzoo.contract.model import Model
from gftzoo.layers.folding import Tensors, fold, fold_projection
from gftzoo.layers.initialisation import xavier
from gftzoo.layers.sinusoid import SINUSOID, SinusoidEmbedding, sinusoid
from gftzoo.layers.temperature import Prediction, Slope, each, start_slope, with_slope, zero_layer
from gftzoo.layers.transformer import PatchEmbed
from gftzoo_diffusion.networks.adaln import DiTBlock, FinalLayer, FinalNorm, LabelEmbedder, TimestepEmbedder
from gftzoo_diffusion.networks.kind import Kind
from gftzoo_diffusion.networks.patches import sincos_positions, unpatchify
from gftzoo_diffusion.options import BETA_LAYERS, LearnedVariance, TransformerOptions


class DiTNetwork(LearnedVariance, TransformerOptions):
    """Hyperparameters of a DiT."""


class DiT(nn.Module):
    """Noise (and variance) prediction of a noised latent.

    Args:
        network: hyperparameters.
        side: of the square latent, a multiple of the patch.
        channels: of the latent.
        classes: without the null class, which is the index `classes`.
        temperature: whether there is a beta input.
    """

    def __init__(self, network: DiTNetwork, side: int, channels: int, classes: int, temperature: bool) -> None:
        super().__init__()
        width, by_projection = network.width, network.beta_embedding == "linear"
        embeds, affine = temperature and network.embeds, temperature and network.affine
        self.patch, self.beta_scale = network.patch, network.beta_scale
        self.out_channels = channels * (2 if network.learn_sigma else 1)
        self.x_embedder = PatchEmbed(side, network.patch, channels, width, bias=True)
        self.t_embedder = TimestepEmbedder(width, with_beta=embeds and by_projection)
        if embeds and not by_projection:
            layers = BETA_LAYERS[network.beta_embedding]
            self.beta_embedder = SinusoidEmbedding(width, network.beta_scale, layers=layers)
        self.y_embedder = LabelEmbedder(classes, width)
        positions = sincos_positions(width, side // network.patch)
        self.pos_embed = nn.Parameter(positions, requires_grad=False)
        self.build_trunk(network, side // network.patch)
        self.final_layer = FinalLayer(width, network.patch, self.out_channels)
        self.slope: Slope | None = None
        if affine:
            block, norm = self.block(network, side // network.patch), partial(FinalNorm, width)
            self.slope = network.build_slope(width, network.patch**2 * self.out_channels, block, norm)
        self.initialise()

    @property
    def repeated(self) -> list[nn.Module]:
        """The blocks, in the order in which they run."""
        return list(self.blocks)

    def block(self, network: Any, tokens_a_side: int) -> Callable[[], nn.Module]:
        """What makes one block of hidden state and conditions."""
        return partial(DiTBlock, network.width, network.heads, network.mlp_ratio)

    def build_trunk(self, network: Any, tokens_a_side: int) -> None:
        """Adds the blocks."""
        block = self.block(network, tokens_a_side)
        self.blocks = nn.ModuleList(block() for _ in range(network.depth))

    def forward(self, x_BCHW: Tensor, t_B: Tensor, y_B: Tensor, beta_B: Tensor | None = None) -> Prediction:
        """The prediction (B, C or 2C, H, W) at timesteps 0..999; `beta_B` None leaves the embedded temperature out."""
        x_BTD = self.x_embedder(x_BCHW) + self.pos_embed
        c_BD = self.condition(t_B, y_B, beta_B)
        for block in self.blocks:
            x_BTD = block(x_BTD, c_BD)
        return each(self.read_out(x_BTD, c_BD), partial(unpatchify, patch=self.patch))

    def read_out(self, x_BTD: Tensor, c_BD: Tensor) -> Prediction:
        """Patches (B, T, patch * patch * C) of the last hidden state; two of them where the temperature is affine."""
        features_BTD = self.final_layer(x_BTD, c_BD)
        return with_slope(self.slope, self.final_layer.linear(features_BTD), x_BTD, features_BTD, c_BD)

    def condition(self, t_B: Tensor, y_B: Tensor, beta_B: Tensor | None) -> Tensor:
        """Timestep, class and temperature as one vector (B, D)."""
        if beta_B is not None and hasattr(self, "beta_embedder"):
            return self.t_embedder(t_B) + self.y_embedder(y_B) + self.beta_embedder(beta_B)
        projected = hasattr(self.t_embedder, "cond_proj")
        scaled_beta_B = self.beta_scale * beta_B.float() if beta_B is not None and projected else None
        return self.t_embedder(t_B, scaled_beta_B) + self.y_embedder(y_B)

    def initialise(self) -> None:
        """As the official code does; the temperature input as GFT does from scratch."""
        xavier(self)
        nn.init.xavier_uniform_(self.x_embedder.proj.weight.view(self.x_embedder.proj.out_channels, -1))
        nn.init.zeros_(self.x_embedder.proj.bias)
        small: list[Any] = [self.y_embedder.embedding_table, self.t_embedder.mlp[0], self.t_embedder.mlp[2]]
        small += [self.t_embedder.cond_proj] if hasattr(self.t_embedder, "cond_proj") else []
        small += [self.beta_embedder.mlp[-1]] if hasattr(self, "beta_embedder") else []
        for module in small:
            nn.init.normal_(module.weight, std=0.02)
        for module in self.modules():
            if isinstance(module, DiTBlock | FinalNorm):
                zero_layer(module.adaLN_modulation[1])
        zero_layer(self.final_layer.linear)
        start_slope(self)


class DiTKind(Kind):
    """DiT on the shelf."""

    Options = DiTNetwork
    class_table = "y_embedder.embedding_table.weight"
    # What embeds a temperature, and what holds it; `cond_proj` is added to the timestep's sinusoid, before an MLP.
    embeddings = {"beta_embedder": ("t_embedder.mlp.2.bias",), "t_embedder.cond_proj": ()}
    readout = "final_layer.linear"

    def assemble(self, options: Any, side: int, card: ModelCard) -> nn.Module:
        return DiT(options, side, card.tokenizer.channels, card.classes, card.temperature)

    @hookimpl
    def import_weights(self, card: ModelCard, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Positions are the card's resolution's, where the file's are another's."""
        found, network = super().import_weights(card, tensors), card.network_options(DiTNetwork)
        side = card.grid // network.patch
        if "pos_embed" in found and found["pos_embed"].shape[1] != side * side:
            found["pos_embed"] = sincos_positions(network.width, side)
        return found

    @hookimpl
    def fold_temperature(self, model: Model, beta: float) -> Tensors:
        """GFT trains the noise alone."""
        network: DiT = model.network
        spare = spare_rows(network, model.card.tokenizer.channels)
        tensors = fold(network, beta, self.embeddings, self.readout, ~spare)
        if hasattr(network.t_embedder, "cond_proj"):
            scaled = sinusoid(network.beta_scale * torch.tensor([beta]), 2 * SINUSOID)
            fold_projection(tensors, network.t_embedder.cond_proj, scaled, "t_embedder.mlp.0")
        return self.settled(model, tensors, spare)


def spare_rows(network: DiT, channels: int) -> Tensor:
    """Which outputs of the last layer (patch * patch * C) are not the prediction: channels lie innermost, it first."""
    return (torch.arange(network.out_channels) >= channels).repeat(network.patch**2)
