"""LDM, the U-Net of latent diffusion (Rombach et al., arXiv 2112.10752), of classes, with GFT's temperature input.

The network itself is in `ldm_unet.py`, since it takes diffusers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.hookspecs import hookimpl
from gftzoo.contract.model import Model
from gftzoo.layers.folding import Tensors, fold, fold_projection
from gftzoo.layers.sinusoid import SINUSOID, sinusoid
from gftzoo.layers.unet_names import RESIDUAL, places, renamed
from gftzoo_diffusion.networks.unet import UNetKind, UNetOptions

UNET, CLASSES = "diffusion_model.", "cond_stage_model.embedding."  # prefixes in Lightning checkpoints
OWN = ("conv_", "time_embedding.", "class_embedder.", "beta_embedder.", "slope.", "down_", "mid_", "up_")  # our modules
PROJECTION = "time_embedding.cond_proj"


class LDMNetwork(UNetOptions):
    """Hyperparameters of a class-conditional LDM."""

    heads: int = Field(1, gt=0, description="attention heads of every level")
    context: int = Field(512, gt=0, description="width of the class's token, which the levels attend to")

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        odd = next((channels for channels in self.channels if channels % self.heads), None)
        if odd is not None:
            raise ValueError(f"a level has {odd} channels, which is no multiple of heads {self.heads}")
        return self


class LDMKind(UNetKind):
    """LDM on the shelf."""

    Options = LDMNetwork
    class_table = "class_embedder.weight"
    # `cond_proj` is added to the time's sinusoid, before an MLP.
    embeddings = {"beta_embedder": ("time_embedding.linear_2.bias",), PROJECTION: ()}

    def assemble(self, options: Any, side: int, card: ModelCard) -> nn.Module:
        from gftzoo_diffusion.networks.ldm_unet import LDM  # takes diffusers

        return LDM(options, side, card.tokenizer.channels, card.classes, card.temperature)

    def own_key(self, key: str) -> str | None:
        """Without what a Lightning checkpoint has beside the network: first stage, schedule, losses."""
        return key if key.startswith(OWN) else None

    def from_official(self, options: Any, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        found = {key.removeprefix("model.").removeprefix(UNET): value for key, value in tensors.items()}
        found = {key.replace(CLASSES, "class_embedder."): value for key, value in found.items()}
        return renamed(found, places(options.attention, options.layers, residual=False), RESIDUAL)

    @hookimpl
    def fold_temperature(self, model: Model, beta: float) -> Tensors:
        network = model.network
        tensors = fold(network, beta, self.embeddings, self.readout)
        if network.time_embedding.cond_proj is not None:
            scaled = sinusoid(network.beta_scale * torch.tensor([beta]), 2 * SINUSOID)
            fold_projection(tensors, network.time_embedding.cond_proj, scaled, "time_embedding.linear_1")
        return tensors
