"""A fixed temperature in the weights of a plain DiT."""

from __future__ import annotations

import torch
from torch import Tensor

from gftzoo.contract.model import Model
from gftzoo.layers.folding import Tensors, fold, fold_projection, settle_rows
from gftzoo.layers.sinusoid import SINUSOID, sinusoid
from gftzoo_diffusion.network import DiT
from gftzoo_diffusion.sampler import DiffusionSampler

# Where a temperature is embedded, and what can hold it; `cond_proj` is added to the timestep's sinusoid, before an MLP.
EMBEDDINGS = {"beta_embedder": ("t_embedder.mlp.2.bias",), "t_embedder.cond_proj": ()}
READOUT = "final_layer.linear"
# Where a variance output lies between its bounds, from -1 to 1 (arXiv 2102.09672, eq. 15).
BOUNDS = {"auto": 1.0, "fixed-large": 1.0, "fixed-small": -1.0}


def fold_temperature(model: Model, beta: float) -> Tensors:
    """The plain network's state dict.

    GFT trains the noise alone. A variance becomes the one that the sampler takes in its place, so that stock samplers
    that believe in it sample as this one does.
    """
    network: DiT = model.network
    variances = variance_rows(network, model.card.tokenizer.channels)
    tensors = fold(network, beta, EMBEDDINGS, READOUT, ~variances)
    if hasattr(network.t_embedder, "cond_proj"):
        scaled = sinusoid(network.beta_scale * torch.tensor([beta]), 2 * SINUSOID)
        fold_projection(tensors, network.t_embedder.cond_proj, scaled, "t_embedder.mlp.0")
    settings = model.family.sampler_settings(model.card)
    assert isinstance(settings, DiffusionSampler)
    if settings.variance in BOUNDS:
        settle_rows(tensors, READOUT, variances, BOUNDS[settings.variance])
    return tensors


def variance_rows(network: DiT, channels: int) -> Tensor:
    """Which outputs of the last layer (patch * patch * C) are variances: channels lie innermost, noise first."""
    return (torch.arange(network.out_channels) >= channels).repeat(network.patch**2)
