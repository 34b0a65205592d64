"""A fixed temperature in the weights of a plain DiT."""

from __future__ import annotations

import torch
from torch import Tensor

from gftzoo.contract.model import Model
from gftzoo.layers.folding import Tensors, add, constant, fold_slope, settle_rows, without_temperature
from gftzoo.layers.sinusoid import SINUSOID, sinusoid
from gftzoo_diffusion.network import DiT
from gftzoo_diffusion.sampler import DiffusionSampler

EMBEDS = ("t_embedder.cond_proj.", "beta_embedder.")
READOUT = "final_layer.linear"
# Where a variance output lies between its bounds, from -1 to 1 (arXiv 2102.09672, eq. 15).
BOUNDS = {"auto": 1.0, "fixed-large": 1.0, "fixed-small": -1.0}


def fold(model: Model, beta: float) -> Tensors:
    """The plain network's state dict.

    GFT trains the noise alone. A variance becomes the one that the sampler takes in its place, so that stock samplers
    that believe in it sample as this one does.
    """
    network: DiT = model.network
    tensors = without_temperature(network, lambda key: key.startswith(EMBEDS))
    beta_1 = torch.tensor([beta])
    if hasattr(network, "beta_embedder"):  # added to the sum of timestep and class
        add(tensors, "t_embedder.mlp.2.bias", constant(network.beta_embedder, beta_1))
    elif hasattr(network.t_embedder, "cond_proj"):  # added to the timestep's sinusoid
        scaled = sinusoid(network.beta_scale * beta_1, 2 * SINUSOID).double()
        added = constant(network.t_embedder.cond_proj, scaled)
        add(tensors, "t_embedder.mlp.0.bias", tensors["t_embedder.mlp.0.weight"].double() @ added)
    variances = variance_rows(network, model.card.tokenizer.channels)
    fold_slope(tensors, network.slope, beta, READOUT, ~variances)
    settings = model.family.sampler_settings(model.card)
    assert isinstance(settings, DiffusionSampler)
    if settings.variance in BOUNDS:
        settle_rows(tensors, READOUT, variances, BOUNDS[settings.variance])
    return tensors


def variance_rows(network: DiT, channels: int) -> Tensor:
    """Which outputs of the last layer (patch * patch * C) are variances: channels lie innermost, noise first."""
    return (torch.arange(network.out_channels) >= channels).repeat(network.patch**2)
